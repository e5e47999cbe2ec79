"""Every map against pytorch-grad-cam and Captum, which were written by others from the same papers."""

from __future__ import annotations

import copy

import captum.attr as captum
import numpy as np
import pytest
import pytorch_grad_cam as cams
import torch
from torch import Tensor, nn

from cifar_core import explain
from cifar_core.explain import (
    METHODS,
    conv_layers,
    guided_grad_cam,
    guided_layers,
    integrated_gradients,
    occlusion,
    peaked,
    resolution,
    smooth_grad,
)
from cifar_core.models import Classifier
from tests.test_explain import network, photos, pooled

CASES = [
    ("resnet9", "residual2"),
    ("resnet9", "residual2.0.conv"),
    ("guide_cnn_optimised", "norm2"),
    ("guide_cnn_optimised", "conv2"),
]
# In double precision, as a rounding error at the edge of a ReLU or of a maximum makes gradients jump.
PIXEL_CASES = ["resnet9", "guide_cnn_optimised"]
CLASSES = torch.tensor([3, 0, 9])
OTHERS = torch.tensor([5, 1, 2])
BOTH = pytest.mark.parametrize("against", [None, OTHERS], ids=["one class", "this and not that"])


def outwards(model: Classifier) -> Classifier:
    """A copy for a reference that hooks it, which activations in place would disturb."""
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return model


def difference(wanted: int, other: int | None):
    return lambda logits: logits[..., wanted] - (0 if other is None else logits[..., other])


class Signed(cams.EigenCAM):
    """Eigen-CAM leaves the sign to chance; the package's correction of it is that of Chung and Ying (2025)."""

    def get_cam_image(self, input_tensor, target_layer, target_category, activations, grads, eigen_smooth):
        from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

        return get_2d_projection_with_sign_correction(activations)


REFERENCES = {
    "grad_cam": cams.GradCAM,
    "grad_cam_pp": cams.GradCAMPlusPlus,
    "layer_cam": cams.LayerCAM,
    "eigen_cam": Signed,
    "score_cam": cams.ScoreCAM,
}


def stretched(maps: Tensor) -> Tensor:
    """From 0 to 1, as that package scales."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 0)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-4 of the largest value, which may be of any size."""
    peak = theirs.detach().abs().max()
    assert peak > 0
    torch.testing.assert_close(ours / peak, theirs.detach() / peak, atol=1e-4, rtol=0, check_dtype=False)


@BOTH
@pytest.mark.parametrize(("name", "layer"), CASES)
@pytest.mark.parametrize("method", REFERENCES)
def test_maps_of_layers_equal_pytorch_grad_cam(method, name, layer, against):
    model, images = network(name), photos(3)
    ours = explain.explain(model, images, method, CLASSES, against, layer)
    hooked = outwards(model)
    reference = REFERENCES[method](hooked, [hooked.body.get_submodule(layer)])
    others = [None] * 3 if against is None else against.tolist()
    targets = [difference(wanted, other) for wanted, other in zip(CLASSES.tolist(), others, strict=True)]
    theirs = torch.from_numpy(reference(images, targets=targets))
    assert (ours.amax((1, 2)) > 0).sum() >= 2, "there is hardly a map to compare"
    torch.testing.assert_close(stretched(ours), theirs, atol=1e-4, rtol=0)


def logits_of(model: Classifier, against: Tensor | None):
    """What Captum explains: one number for each class, less that of the other class."""
    if against is None:
        return model, CLASSES
    return lambda images: difference_rows(model(images)), torch.zeros(3, dtype=torch.int64)


def difference_rows(logits: Tensor) -> Tensor:
    repeats = len(logits) // 3
    wanted, other = CLASSES.repeat_interleave(repeats), OTHERS.repeat_interleave(repeats)
    return logits.gather(1, wanted[:, None]) - logits.gather(1, other[:, None])


@BOTH
@pytest.mark.parametrize("name", PIXEL_CASES)
def test_integrated_gradients_equal_captum_and_sum_to_the_rise_of_the_logit(name, against):
    model, images = network(name).double(), photos(3).double()
    ours = integrated_gradients(model, images, CLASSES, against)
    theirs = []
    for row in range(3):
        asked = difference(int(CLASSES[row]), None if against is None else int(against[row]))
        rule = captum.IntegratedGradients(lambda batch, asked=asked: asked(model(batch)))
        theirs.append(rule.attribute(images[row : row + 1], n_steps=explain.PATH_STEPS))
    assert_equal(ours, torch.cat(theirs))
    rise = explain._evidence(model(images), CLASSES, against) - explain._evidence(model(images * 0), CLASSES, against)
    # The integrand has jumps, which any rule for smooth functions meets with an error.
    assert ((ours.sum((1, 2, 3)) - rise).abs() < 0.02 * ours.abs().sum((1, 2, 3))).all()


@BOTH
@pytest.mark.parametrize("name", PIXEL_CASES)
def test_occlusion_equals_captum(name, against):
    model, images = network(name).double(), photos(3).double()
    ours = occlusion(model, images, CLASSES, against)
    function, targets = logits_of(model, against)
    side, stride = explain.WINDOW, explain.STRIDE
    theirs = captum.Occlusion(function).attribute(
        images, sliding_window_shapes=(3, side, side), strides=(3, stride, stride), baselines=0, target=targets
    )
    assert_equal(ours, theirs[:, 0])


@BOTH
@pytest.mark.parametrize("name", PIXEL_CASES)
def test_smooth_grad_equals_captum_with_the_same_noise(name, against, monkeypatch):
    model, images = network(name).double(), photos(3).double()
    ours = smooth_grad(model, images, CLASSES, against, seed=4)
    noise = torch.randn(explain.NOISY_COPIES, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    theirs = []
    for row in range(3):
        asked = difference(int(CLASSES[row]), None if against is None else int(against[row]))
        image = images[row : row + 1]
        spread = explain.NOISE * float(image.max() - image.min())
        monkeypatch.setattr(torch, "normal", lambda mean, deviations: deviations * noise)
        tunnel = captum.NoiseTunnel(captum.Saliency(lambda batch, asked=asked: asked(model(batch))))
        theirs.append(tunnel.attribute(image, nt_samples=len(noise), stdevs=spread, abs=False))
    assert_equal(ours, torch.cat(theirs))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "layer"), CASES)
def test_guided_grad_cam_equals_captum(name, layer):
    model, images = network(name), photos(3)
    hooked = outwards(model)
    rule = captum.GuidedGradCam(hooked, hooked.body.get_submodule(layer))
    theirs = rule.attribute(images, target=CLASSES, interpolate_mode="bilinear")
    assert_equal(guided_grad_cam(model, images, CLASSES, layer=layer), theirs)


def test_guidance_is_of_relu_alone():
    assert guided_layers(network("resnet9")) == 8
    assert guided_layers(network("airbench")) == 0
    smooth, images = pooled(("gelu", nn.GELU())), photos(2)
    classes = torch.tensor([0, 1])
    plain = explain._input_gradient(smooth, images, classes, None)
    heat = explain.explain(smooth, images, "grad_cam", classes)
    assert torch.equal(guided_grad_cam(smooth, images, classes), plain * heat[:, None])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["airbench", "vit"])
def test_every_method_works_on_other_networks_and_leaves_them_as_they_were(method, name):
    model, images = network(name), photos(2)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    maps = explain.explain(model, images, method)
    assert maps.shape == (2, 32, 32)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert METHODS[method].signed or maps.min() >= 0
    assert torch.equal(explain.explain(model, images, method), maps), "not the same a second time"
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(images, photos(2))


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_each_image_gives_alone_by(method):
    model, images = network("guide_cnn"), photos(2)
    alone = torch.cat([explain.explain(model, image[None], method) for image in images])
    torch.testing.assert_close(explain.explain(model, images, method), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", [name for name, about in METHODS.items() if about.of_class])
def test_this_against_that_is_no_map_of_this_alone(method):
    model, images = network("guide_cnn_optimised"), photos(3)
    alone, both = (explain.explain(model, images, method, CLASSES, other) for other in (None, OTHERS))
    assert not torch.allclose(peaked(alone), peaked(both), atol=1e-3)


def test_this_against_itself_is_empty():
    model, images = network("guide_cnn_optimised"), photos(3)
    for method in ("grad_cam", "layer_cam", "integrated_gradients", "occlusion", "smooth_grad", "guided_grad_cam"):
        assert explain.is_empty(explain.explain(model, images, method, CLASSES, CLASSES)).all(), method


def test_every_convolution_can_be_looked_at():
    model = network("resnet9")
    names = conv_layers(model)
    assert names[:3] == ("prep.conv", "prep", "layer1.conv")
    assert set(model.layers) < set(names)
    assert sum(isinstance(model.body.get_submodule(name), nn.Conv2d) for name in names) == 8
    assert resolution(model, "grad_cam", "layer2.conv") == (16, 16)
    assert resolution(model, "grad_cam", "layer2") == (8, 8)
    assert resolution(model, "occlusion") == (7, 7)
    assert resolution(model, "smooth_grad") == (32, 32)


def test_what_speaks_against_is_below_zero_and_drawn_in_blue():
    model = pooled(("relu", nn.ReLU()))
    with torch.no_grad():
        model.body.first.weight.fill_(0.1)
        model.body.first.bias.zero_()
        model.head.weight.fill_(-1)
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 8:16, 8:16] = 1
    for method in ("integrated_gradients", "occlusion"):
        heat = peaked(explain.explain(model, image, method, torch.tensor([0])))[0]
        assert heat.max() <= 1e-6
        assert heat.min() == -1
        assert heat[20:, 20:].abs().max() < 1e-6
        red, _, blue = explain.heat_colours(heat.numpy())[tuple(divmod(int(heat.argmin()), 32))] // 2
        assert blue >= red
    warm, cold = explain.heat_colours(np.array([0.4, -0.4])).astype(int)
    assert warm[0] > warm[2]
    assert cold[2] > cold[0]


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="There is no method 'gradcam'; did you mean 'grad_cam'"):
        explain.explain(network("guide_cnn"), photos(1), "gradcam")
