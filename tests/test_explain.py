"""Class-activation maps against closed forms and an independent implementation."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cifar_core.explain import grad_cam, heat_colours, is_empty, map_size, overlay
from cifar_core.models import Classifier, Enlarge, create, named

LAYERS = [
    ("resnet9", "layer2"),
    ("resnet9", "residual2"),
    ("resnet9", "prep"),
    ("guide_cnn", "conv2"),
    ("guide_cnn", "pool2"),
    ("guide_cnn_optimised", "norm1"),
    ("resnet18", "layer3"),
]


def photos(count: int = 6, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def network(name: str) -> Classifier:
    """A narrow network whose batch norms have seen some images, so that they do something."""
    torch.manual_seed(0)
    model = create(name, 10, width=0.25)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(32, 3, 32, 32) * 2 + 0.5)
    return model.eval()


def pooled(*layers: tuple[str, nn.Module], channels: int = 8, classes: int = 5) -> Classifier:
    """Any body followed by mean pooling and a linear head."""
    torch.manual_seed(1)
    body = named(first=nn.Conv2d(3, channels, 3, padding=1), **dict(layers))
    embedding = named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return Classifier(body, embedding, nn.Linear(channels, classes)).eval()


def hooked(model: Classifier, images: Tensor, classes: Tensor | None, layer: str) -> Tensor:
    """Grad-CAM written another way: hooks on the layer, one image and one backward pass at a time, plain loops."""
    model = copy.deepcopy(model)
    seen: dict[str, Tensor] = {}

    def keep(module, inputs, output):
        seen["maps"] = output.detach().clone()
        output.register_hook(lambda gradient: seen.__setitem__("gradient", gradient.clone()))
        return output.clone()

    handle = getattr(model.body, layer).register_forward_hook(keep)
    heats = []
    for place, image in enumerate(images):
        logits = model(image[None])[0]
        logits[logits.argmax() if classes is None else classes[place]].backward()
        heat = torch.zeros(seen["maps"].shape[2:])
        for feature_map, gradient in zip(seen["maps"][0], seen["gradient"][0], strict=True):
            heat += gradient.sum() / gradient.numel() * feature_map
        heat = heat.clamp(min=0)
        heat = nn.functional.interpolate(heat[None, None], image.shape[1:], mode="bilinear")[0, 0]
        heats.append(heat / heat.max() if heat.max() > 0 else heat)
    handle.remove()
    return torch.stack(heats)


def test_equals_cam_for_mean_pooling_and_a_linear_head():
    """There the gradient is the head's own weight, so Grad-CAM is CAM (Zhou et al., 2016)."""
    model, images = pooled(("relu", nn.ReLU()), ("pool", nn.MaxPool2d(4))), photos()
    classes = torch.tensor([0, 1, 2, 3, 4, 0])
    with torch.no_grad():
        cam = torch.einsum("bc,bchw->bhw", model.head.weight[classes], model.feature_maps(images)).relu()
        cam = nn.functional.interpolate(cam[:, None], (32, 32), mode="bilinear")[:, 0]
        cam = cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(grad_cam(model, images, classes), cam, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chosen", [True, False], ids=["chosen classes", "predicted classes"])
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_equals_an_independent_implementation_with_hooks(name, layer, chosen):
    model, images = network(name), photos()
    classes = torch.tensor([3, 0, 9, 5, 5, 1]) if chosen else None
    heat = grad_cam(model, images, classes, layer)
    assert heat.dtype == torch.float32
    torch.testing.assert_close(heat, hooked(model, images, classes, layer), atol=1e-5, rtol=0)


def test_the_last_layer_and_the_predicted_class_are_the_defaults():
    model, images = network("resnet9"), photos()
    expected = grad_cam(model, images, model(images).argmax(1), model.layers[-1])
    assert torch.equal(grad_cam(model, images), expected)


@pytest.mark.parametrize("name", ["resnet9", "guide_cnn"])
def test_another_class_and_another_layer_give_another_map(name):
    model, images = network(name), photos()
    maps = [grad_cam(model, images, torch.full((6,), k), layer) for k in (0, 1) for layer in model.layers[-3:]]
    assert all(not torch.allclose(one, other) for at, one in enumerate(maps) for other in maps[:at])


@pytest.mark.parametrize("inplace", [nn.ReLU(inplace=True), nn.Hardtanh(-0.1, 0.1, inplace=True)])
def test_a_layer_in_place_afterwards_does_not_corrupt_the_maps(inplace):
    tame = nn.ReLU() if isinstance(inplace, nn.ReLU) else nn.Hardtanh(-0.1, 0.1)
    images = photos()
    heat = grad_cam(pooled(("act", inplace)), images, layer="first")
    assert torch.equal(heat, grad_cam(pooled(("act", tame)), images, layer="first"))
    assert torch.equal(images, photos())


def test_an_embedding_in_place_does_not_corrupt_the_maps():
    model, tame = pooled(), pooled()
    model.embedding = nn.Sequential(nn.Hardtanh(-0.1, 0.1, inplace=True), *model.embedding)
    tame.embedding = nn.Sequential(nn.Hardtanh(-0.1, 0.1), *tame.embedding)
    assert torch.equal(grad_cam(model, photos()), grad_cam(tame, photos()))


@pytest.mark.parametrize("name", ["resnet9", "guide_cnn_optimised"])
def test_the_model_is_left_as_it_was(name):
    model = network(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    grad_cam(model, photos(), layer=model.layers[0])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not model.training


def test_frozen_models_inference_mode_and_autocast_make_no_difference():
    model, images = network("resnet9"), photos()
    expected = grad_cam(model, images)
    model.requires_grad_(False)
    assert torch.equal(grad_cam(model, images), expected)
    with torch.inference_mode():
        assert torch.equal(grad_cam(model, images.clone()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(grad_cam(model, images), expected)
    with torch.no_grad():
        heat = grad_cam(model, images)
    assert torch.equal(heat, expected)
    assert not heat.requires_grad


@pytest.mark.parametrize("layer", ["prep", "residual2"])
def test_a_batch_gives_what_each_image_gives_alone(layer):
    model, images = network("resnet9"), photos()
    alone = torch.cat([grad_cam(model, image[None], layer=layer) for image in images])
    torch.testing.assert_close(grad_cam(model, images, layer=layer), alone, atol=1e-5, rtol=0)


def test_threads_sharing_a_model_get_what_one_alone_gets():
    model = network("resnet9")
    jobs = [(photos() + shift, torch.full((6,), shift), layer) for shift in range(4) for layer in model.layers[-4:]]
    expected = [grad_cam(model, *job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda job: grad_cam(model, *job), jobs * 3))
    for result, wanted in zip(results, expected * 3, strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=0)


def test_maps_have_their_peak_at_one_and_are_empty_where_nothing_speaks_for_the_class():
    model = pooled(("relu", nn.ReLU()))
    with torch.no_grad():
        model.head.weight[0] = -model.head.weight[0].abs()
        model.head.weight[1] = model.head.weight[1].abs()
    heat = grad_cam(model, photos(), torch.tensor([0, 1, 0, 1, 1, 1]))
    assert is_empty(heat).tolist() == [True, False, True, False, False, False]
    assert torch.equal(heat[0], torch.zeros(32, 32))
    assert heat[~is_empty(heat)].amax((1, 2)).tolist() == [1, 1, 1, 1]
    assert heat.min() >= 0
    assert torch.isfinite(heat).all()


def test_a_map_with_a_single_warm_place_is_not_empty():
    heat = torch.zeros(2, 4, 4)
    heat[1, 2, 3] = 0.1
    assert is_empty(heat).tolist() == [True, False]


def test_a_layer_that_hands_its_input_on_leaves_the_images_of_the_caller_alone():
    torch.manual_seed(1)
    embedding = named(pool=nn.AdaptiveAvgPool2d(2), flatten=nn.Flatten())
    model = Classifier(named(first=nn.Identity()), embedding, nn.Linear(12, 3)).eval()
    images = photos()
    heat = grad_cam(model, images)
    assert not images.requires_grad
    assert torch.equal(images, photos())
    with torch.inference_mode():
        assert torch.equal(grad_cam(model, images.clone()), heat)


def test_evidence_in_one_corner_is_shown_in_that_corner():
    model = pooled(("relu", nn.ReLU()), ("pool", nn.AvgPool2d(4)))
    with torch.no_grad():
        model.body.first.weight.fill_(0.1)
        model.body.first.bias.zero_()
        model.head.weight.abs_()
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 4:8, 24:28] = 1
    heat = grad_cam(model, image)[0]
    row, column = divmod(int(heat.argmax()), 32)
    assert 3 <= row <= 8
    assert 23 <= column <= 28
    assert heat[16:, :16].max() == 0


def test_maps_larger_than_the_image_are_averaged_rather_than_skipped():
    """A single hot place in every seven by seven must not vanish between the samples."""
    torch.manual_seed(1)
    model = Classifier(
        named(enlarge=Enlarge(224), first=nn.Conv2d(3, 4, 1)),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()),
        nn.Linear(4, 3),
    ).eval()

    class Dots(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            dots = torch.zeros_like(maps)
            dots[:, :, ::7, ::7] = 1
            return dots + 0 * maps

    model.body.add_module("dots", Dots())
    with torch.no_grad():
        model.head.weight.abs_()
    heat = grad_cam(model, photos(1))[0]
    assert heat.shape == (32, 32)
    assert heat[2:-2, 2:-2].min() > 0.5


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_the_size_of_a_map_is_that_of_the_layer(name, layer):
    model = network(name)
    shapes = []
    handle = getattr(model.body, layer).register_forward_hook(lambda _, __, output: shapes.append(output.shape[2:]))
    model(photos())
    handle.remove()
    assert map_size(model, layer) == tuple(shapes[0])
    assert map_size(model) == map_size(model, model.layers[-1])


def test_other_image_sizes_are_allowed_where_the_model_allows_them():
    model = network("resnet9")
    assert grad_cam(model, photos(2, 48)).shape == (2, 48, 48)
    assert map_size(model, size=64) == (8, 8)


def test_a_training_model_an_unknown_layer_and_a_class_out_of_range_are_named():
    model, images = network("resnet9"), photos(2)
    with pytest.raises(ValueError, match=r"There is no layer 'layr2'; did you mean 'layer2'\?"):
        grad_cam(model, images, layer="layr2")
    with pytest.raises(ValueError, match="There is no layer 'xyz'; known are prep, "):
        map_size(model, "xyz")
    with pytest.raises(ValueError, match="classes must be from 0 to 9, but one is 10"):
        grad_cam(model, images, torch.tensor([0, 10]))
    with pytest.raises(ValueError, match="classes must be from 0 to 9, but one is -1"):
        grad_cam(model, images, torch.tensor([-1, 0]))
    with pytest.raises(ValueError, match=r"classes must be \(2,\) int64, but are \(3,\) int64"):
        grad_cam(model, images, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"classes must be \(2,\) int64, but are \(2,\) float32"):
        grad_cam(model, images, torch.tensor([0.0, 1.0]))
    model.train()
    for ask in (lambda: grad_cam(model, images), lambda: map_size(model)):
        with pytest.raises(ValueError, match="must be in eval mode"):
            ask()


def test_an_overlay_has_the_size_of_the_photo_and_none_of_the_heat_at_opacity_zero():
    photo = Image.effect_noise((90, 60), 80).convert("RGB")
    heat = np.random.default_rng(0).random((4, 4))
    drawn = overlay(photo, heat, 0.7)
    assert (drawn.size, drawn.mode) == ((90, 60), "RGB")
    assert drawn.tobytes() != photo.tobytes()
    assert overlay(photo, heat, 0).tobytes() == photo.tobytes()
    assert overlay(photo, np.zeros((4, 4)), 1).tobytes() == photo.tobytes()
    assert overlay(photo.convert("L"), heat, 0.7).mode == "RGB"


def test_an_overlay_of_full_opacity_shows_the_colour_of_the_heat_itself():
    photo = Image.new("RGB", (16, 16), (10, 200, 30))
    assert overlay(photo, np.ones((2, 2)), 1).getpixel((3, 3)) == tuple(heat_colours(np.array(1.0)).tolist())
    half = np.array(overlay(photo, np.ones((2, 2)), 0.5).getpixel((3, 3)))
    np.testing.assert_allclose(half, (heat_colours(np.array(1.0)) + np.array([10, 200, 30.0])) / 2, atol=0.51)


def test_heat_is_drawn_where_it_is_and_enlarged_without_steps():
    heat = np.zeros((4, 4))
    heat[0, 3] = 1
    drawn = np.asarray(overlay(Image.new("RGB", (400, 200)), heat, 1)).astype(int).sum(2)
    assert drawn[:50, 300:].mean() > 5 * drawn[100:, :200].mean()
    assert np.abs(np.diff(drawn, axis=1)).max() < 30


def test_the_colours_rise_in_brightness_from_nearly_black_to_nearly_white():
    colours = heat_colours(np.linspace(0, 1, 256)) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    assert (np.diff(lightness) >= -0.05).all()
    assert lightness[0] < 1
    assert lightness[-1] > 97
    # Evenly, so that equal steps of heat look equal: no step differs from the mean by more than it.
    steps = np.diff(lightness[::16])
    assert steps.max() < 2 * steps.mean()


@pytest.mark.parametrize(
    ("heat", "opacity", "message"),
    [
        (np.zeros((2, 2)), 1.5, "opacity must be from 0 to 1, but is 1.5"),
        (np.zeros((2, 2)), float("nan"), "opacity must be"),
        (np.zeros((1, 2, 2)), 0.5, r"heat must be \(h, w\), but is \(1, 2, 2\)"),
        (np.zeros((0, 2)), 0.5, r"heat must be \(h, w\)"),
        (np.full((2, 2), 2.0), 0.5, "heat must be from 0 to 1"),
        (np.full((2, 2), np.nan), 0.5, "heat must be from 0 to 1"),
    ],
)
def test_impossible_heat_and_opacity_are_named(heat, opacity, message):
    with pytest.raises(ValueError, match=message):
        overlay(Image.new("RGB", (8, 8)), heat, opacity)
