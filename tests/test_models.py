"""The contract of every registered network, and the published architectures."""

from __future__ import annotations

import inspect
import io
import math
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
from torch import nn

from cifar_core import models
from cifar_core.config import MODELS, SMALLEST_EARLY_SIZE
from cifar_core.models import (
    REGISTRY,
    WeightsUnavailable,
    count_parameters,
    create,
    initialise,
    layer_table,
    output_size,
)
from cifar_core.models import airbench as airbench_layout
from cifar_core.models.airbench import SMOOTHING, SmallMapConvolution, Whitening
from cifar_core.models.transformer import Block, Positions

NAMES = list(MODELS)
WEIGHTS_FILE = "resnet18-f37072fd.pth"


def small(name: str, classes: int = 10, **settings: float) -> models.Classifier:
    """As narrow as the model allows, so that the suite stays quick."""
    width = 1.0 if MODELS[name].pretrained else 0.25
    return create(name, classes, width=width, pretrained=False, **settings)


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def weighted(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_registry_and_settings_name_the_same_models() -> None:
    assert set(REGISTRY) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_first_docstring_line_is_a_sentence(name: str) -> None:
    first = inspect.getdoc(REGISTRY[name]).splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("name", NAMES)
def test_gives_one_logit_per_class(name: str, classes: int) -> None:
    model = small(name, classes).eval()
    with torch.no_grad():
        assert model(images()).shape == (2, classes)
    assert isinstance(model.head, nn.Linear)


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_head_of_embedding_of_feature_maps(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        maps = model.feature_maps(images())
        features = model.embed(maps)
        assert maps.ndim == 4
        assert features.shape == (2, model.head.in_features)
        assert torch.equal(model(images()), model.head(features))


@pytest.mark.parametrize("name", NAMES)
def test_layers_give_feature_maps_that_later_layers_leave_alone(name: str) -> None:
    """Class-activation maps keep the output of a layer while the rest of the body runs."""
    model = small(name).eval()
    outputs, copies = {}, {}
    maps = images()
    with torch.no_grad():
        for child_name, child in model.body.named_children():
            maps = outputs[child_name] = child(maps)
            copies[child_name] = maps.clone()
        model.embed(maps)
    assert len(model.layers) >= 3
    assert set(model.layers) <= set(outputs)
    assert model.layers[-1] == list(outputs)[-1]
    for layer in model.layers:
        assert min(outputs[layer].shape[2:]) > 1
        assert torch.equal(outputs[layer], copies[layer]), layer


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    # In eval mode, because batch norm of a batch makes the bias of the convolution before it idle.
    model = small(name).eval()
    model(images(4)).square().sum().backward()
    idle = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", NAMES)
def test_only_training_with_dropout_is_random(name: str) -> None:
    model = small(name, dropout=0.5)
    with torch.no_grad():
        assert not torch.equal(model.train()(images()), model(images()))
        assert torch.equal(model.eval()(images()), model(images()))
        model.set_dropout(0.0)
        assert torch.equal(model.train()(images()), model(images()))


@pytest.mark.parametrize("name", NAMES)
def test_dropout_leaves_feature_maps_alone(name: str) -> None:
    model = small(name, dropout=0.5)
    with torch.no_grad():
        assert torch.equal(model.train().feature_maps(images()), model.feature_maps(images()))


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_same_weights(name: str) -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(nn.utils.parameters_to_vector(small(name).parameters()))
    assert torch.equal(*weights)


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_a_file_unchanged(name: str) -> None:
    model, other = small(name), small(name)
    model.train()(images())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(model.eval()(images()), other.eval()(images()))


@pytest.mark.parametrize("name", NAMES)
def test_works_in_channels_last_under_bfloat16(name: str) -> None:
    torch.manual_seed(0)
    model = small(name).eval()
    with torch.no_grad():
        exact = model(images())
        model = model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(images().to(memory_format=torch.channels_last))
    assert rounded.dtype is torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_layer_table_lists_every_parameter_once_and_the_true_shapes(name: str) -> None:
    model = small(name, classes=7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rows = layer_table(model)
    assert sum(row.parameters for row in rows) == count_parameters(model)
    assert rows[-1].name == "head"
    assert rows[-1].output_shape == (7,)
    shapes = {row.name: row.output_shape for row in rows}
    maps = images()
    with torch.no_grad():
        for child_name, child in model.eval().body.named_children():
            maps = child(maps)
            if child_name in shapes:
                assert shapes[child_name] == tuple(maps.shape[1:])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_layer_table_leaves_mode_and_hooks_alone() -> None:
    model = create("guide_cnn_optimised", 10).train()
    layer_table(model)
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_layer_table_of_three_conv_is_the_published_one() -> None:
    """The table in the tutorial, with channels first as PyTorch has them."""
    weighted = [row for row in layer_table(create("three_conv", 10)) if row.parameters or row.kind.startswith("Max")]
    assert [(row.kind, row.output_shape, row.parameters) for row in weighted] == [
        ("Conv2d 3x3, stride 1", (32, 30, 30), 896),
        ("MaxPool2d 2x2, stride 2", (32, 15, 15), 0),
        ("Conv2d 3x3, stride 1", (64, 13, 13), 18_496),
        ("MaxPool2d 2x2, stride 2", (64, 6, 6), 0),
        ("Conv2d 3x3, stride 1", (64, 4, 4), 36_928),
        ("Linear", (64,), 65_600),
        ("Linear", (10,), 650),
    ]


def test_layer_table_refuses_a_size_the_linear_layers_do_not_fit() -> None:
    with pytest.raises(ValueError, match="cannot take images of 40x40 pixels"):
        layer_table(create("single_conv", 10), size=40)


def conv(inputs: int, outputs: int, kernel: int = 3, bias: bool = False) -> int:
    return kernel * kernel * inputs * outputs + outputs * bias


def conv_norm(inputs: int, outputs: int, kernel: int = 3) -> int:
    return conv(inputs, outputs, kernel) + 2 * outputs


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def resnet18_stages() -> int:
    total = 4 * conv_norm(64, 64)
    for inputs in (64, 128, 256):
        outputs = 2 * inputs
        total += conv_norm(inputs, outputs) + 3 * conv_norm(outputs, outputs) + conv_norm(inputs, outputs, kernel=1)
    return total


GUIDE = conv(3, 32, bias=True) + conv(32, 64, bias=True) + linear(4096, 512)
RESNET9 = (
    conv_norm(3, 64) + conv_norm(64, 128) + 2 * conv_norm(128, 128) + conv_norm(128, 256) + conv_norm(256, 512)
    + 2 * conv_norm(512, 512)
)  # fmt: skip


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize(
    ("name", "without_head", "features"),
    [
        ("single_conv", conv(3, 16, bias=True), 3600),
        ("guide_cnn", GUIDE, 512),
        ("guide_cnn_optimised", GUIDE + 2 * 32 + 2 * 64, 512),
        (
            "three_conv",
            conv(3, 32, bias=True) + conv(32, 64, bias=True) + conv(64, 64, bias=True) + linear(1024, 64),
            64,
        ),
        ("resnet9", RESNET9, 512),
        ("resnet18", conv_norm(3, 64) + resnet18_stages(), 512),
        ("resnet18_transfer", conv_norm(3, 64, kernel=7) + resnet18_stages(), 512),
    ],
)
def test_number_of_parameters_follows_from_the_architecture(
    name: str, without_head: int, features: int, classes: int
) -> None:
    assert count_parameters(create(name, classes, pretrained=False)) == without_head + linear(features, classes)


@pytest.mark.parametrize(("name", "published"), [("three_conv", 122_570), ("single_conv", 36_458)])
def test_number_of_parameters_is_the_published_one(name: str, published: int) -> None:
    assert count_parameters(create(name, 10)) == published


def test_output_sizes_of_single_conv_are_the_published_ones() -> None:
    assert output_size(32, kernel=3) == 30
    assert output_size(30, kernel=2, stride=2) == 15
    assert create("single_conv", 10).head.in_features == 16 * 15 * 15 == 3600


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_output_size_is_that_of_a_convolution(kernel: int, stride: int, padding: int, dilation: int) -> None:
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    for size in (15, 16, 32):
        expected = layer(torch.empty(1, 1, size, size, device="meta")).shape[-1]
        assert output_size(size, kernel, stride, padding, dilation) == expected


@pytest.mark.parametrize("name", [name for name in NAMES if not MODELS[name].pretrained])
def test_width_scales_every_hidden_layer(name: str) -> None:
    def channels(width: float) -> list[int]:
        weights = create(name, 10, width=width).named_parameters()
        return [weight.shape[0] for key, weight in weights if weight.ndim > 1 and key != "head.weight"]

    published = channels(1.0)
    assert channels(0.5) == [number // 2 for number in published]
    assert channels(2.0) == [number * 2 for number in published]
    # Of ShuffleNet each half has at least one.
    assert set(channels(0.001)) <= {1, 2 if name == "shufflenet_v2" else 1}


def test_optimised_guide_has_half_the_dropout_after_its_second_block() -> None:
    model = create("guide_cnn_optimised", 10)

    def rates() -> list[float]:
        return [module.p for module in model.modules() if isinstance(module, nn.Dropout)]

    assert rates() == [0.25, 0.5]
    model.set_dropout(0.8)
    assert rates() == [0.4, 0.8]
    assert model.dropout == 0.8
    kinds = [row.kind for row in layer_table(model)]
    assert kinds[kinds.index("Dropout 0.4") - 1].startswith("MaxPool2d")
    assert kinds[-2:] == ["Dropout 0.8", "Linear"]


def test_three_conv_drops_before_its_linear_layers() -> None:
    kinds = [row.kind for row in layer_table(create("three_conv", 10, dropout=0.4))]
    assert kinds[-4:] == ["Dropout 0.4", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_the_published_one_unless_asked_otherwise(name: str) -> None:
    assert small(name).dropout == MODELS[name].dropout
    assert small(name, dropout=0.3).dropout == 0.3


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_refuses_a_dropout_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1, but is"):
        create("three_conv", 10, dropout=rate)


def test_refuses_an_unknown_model_and_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no model 'resnet_9'; did you mean 'resnet9'\?"):
        create("resnet_9", 10)
    with pytest.raises(ValueError, match=r"known are .*three_conv"):
        create("xyz", 10)


def test_refuses_numbers_that_make_no_network() -> None:
    with pytest.raises(ValueError, match="classes must be at least 1, but is 0"):
        create("three_conv", 0)
    with pytest.raises(ValueError, match="width must be above 0, but is 0"):
        create("three_conv", 10, width=0)
    with pytest.raises(ValueError, match=r"width must be 1 for resnet18_transfer.*but is 0\.5"):
        create("resnet18_transfer", 10, width=0.5, pretrained=False)


def test_default_initialisation_is_torchs_own() -> None:
    model = create("guide_cnn", 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    initialise(model, "default")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state), "Chance was used up."


@pytest.mark.parametrize("how", ["he", "xavier"])
def test_variance_of_the_first_weights_is_that_of_the_paper(how: str) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(48, 64, 3), nn.Conv2d(64, 32, 5, stride=2), nn.Linear(400, 90)])
    initialise(layers, how)
    for layer in weighted(layers):
        count = layer.weight[0, 0].numel()
        fan_in, fan_out = layer.weight.shape[1] * count, layer.weight.shape[0] * count
        if how == "he":
            variance = 2 / (fan_out if isinstance(layer, nn.Conv2d) else fan_in)
            # Of a normal distribution: the fourth moment is 3 times the squared variance.
            kurtosis, largest = 3.0, math.inf
        else:
            variance = 2 / (fan_in + fan_out)
            kurtosis, largest = 1.8, math.sqrt(3 * variance)
        weights = layer.weight.detach().double()
        spread = math.sqrt((kurtosis - 1) / weights.numel())
        assert abs(weights.square().mean() / variance - 1) < 4 * spread
        assert abs(weights.mean()) < 4 * math.sqrt(variance / weights.numel())
        assert weights.pow(4).mean() / weights.square().mean() ** 2 == pytest.approx(kurtosis, abs=0.1)
        assert weights.abs().max() <= largest * (1 + 1e-6)


def test_orthogonal_weights_are_orthogonal() -> None:
    layers = nn.ModuleList([nn.Conv2d(4, 16, 3), nn.Conv2d(2, 40, 3), nn.Linear(12, 7), nn.Linear(7, 12)])
    initialise(layers, "orthogonal")
    for layer in weighted(layers):
        matrix = layer.weight.detach().flatten(1)
        square = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(square, torch.eye(len(square)))


def test_dirac_passes_every_channel_of_a_depthwise_convolution_on() -> None:
    layer = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    initialise(layer, "dirac")
    maps = torch.randn(2, 6, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(layer(maps), maps)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 3), (3, 8), (8, 3)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_dirac_passes_its_input_on(inputs: int, outputs: int, kernel: int) -> None:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    before = layer.weight.detach().clone()
    initialise(layer, "dirac")
    maps = torch.randn(2, inputs, 9, 9)
    with torch.no_grad():
        passed = layer(maps)
    shared = min(inputs, outputs)
    torch.testing.assert_close(passed[:, :shared], maps[:, :shared])
    assert torch.equal(layer.weight[shared:], before[shared:])
    assert not outputs > shared or passed[:, shared:].std() > 0


def test_dirac_leaves_linear_layers_alone() -> None:
    layer = nn.Linear(5, 5)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    initialise(layer, "dirac")
    assert all(torch.equal(*pair) for pair in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("how", ["he", "xavier", "orthogonal", "dirac"])
@pytest.mark.parametrize("name", [name for name in NAMES if not MODELS[name].pretrained])
def test_every_network_begins_anew_with_biases_at_zero(name: str, how: str) -> None:
    torch.manual_seed(0)
    model = small(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    initialise(model, how)
    begun = [layer for layer in weighted(model) if how != "dirac" or isinstance(layer, nn.Conv2d)]
    for layer in begun:
        assert layer.bias is None or not layer.bias.any()
    touched = {id(parameter) for layer in begun for parameter in layer.parameters()}
    names = {key for key, parameter in model.named_parameters() if id(parameter) in touched}
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == names
    assert torch.isfinite(model.eval()(images())).all()


def test_the_same_seed_initialises_alike() -> None:
    one, other = small("resnet9"), small("resnet9")
    for model in (one, other):
        torch.manual_seed(3)
        initialise(model, "orthogonal")
    conv = [weighted(model)[0].weight for model in (one, other)]
    assert torch.equal(*conv)


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^initialisation must be default, he, .* or dirac, but is 'lsuv'\.$"):
        initialise(small("single_conv"), "lsuv")


def test_refuses_a_second_model_of_the_same_name() -> None:
    with pytest.raises(ValueError, match="two models named 'resnet9'"):
        models.register("resnet9")(REGISTRY["resnet9"])


def test_resnet9_takes_the_maximum_of_each_map() -> None:
    model = small("resnet9").eval()
    maps = torch.randn(2, model.head.in_features, 4, 4)
    assert torch.equal(model.embed(maps), nn.functional.max_pool2d(maps, 4).flatten(1))


def test_resnet9_adds_its_residual_blocks_to_their_input() -> None:
    block = small("resnet9").eval().body.residual1
    maps = torch.randn(2, block[0].conv.in_channels, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(block(maps), maps + block[1](block[0](maps)))


def test_resnet18_is_torchvisions_with_another_stem() -> None:
    from torchvision.models import resnet18

    reference = resnet18(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    model = create("resnet18", 10)
    reference.load_state_dict(dict(zip(reference.state_dict(), model.state_dict().values(), strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images()), reference.eval()(images()))


def mobile_reference(name: str) -> nn.Module:
    """torchvision's own network with the strides that suit 32 pixels."""
    import torchvision

    if name == "mobilenet_v2":
        network = torchvision.models.mobilenet_v2(num_classes=10)
        network.features[0][0].stride = network.features[2].conv[1][0].stride = (1, 1)
    else:
        network = torchvision.models.shufflenet_v2_x1_0(num_classes=10)
        network.conv1[0].stride = (1, 1)
        network.maxpool = nn.Identity()
    return network


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2"])
def test_networks_for_phones_are_torchvisions_with_other_strides(name: str) -> None:
    reference, model = mobile_reference(name), create(name, 10)
    assert count_parameters(model) == count_parameters(reference)
    model.train()(images(8))  # Running statistics of the batch norms that are not those of a fresh one.
    reference.load_state_dict(dict(zip(reference.state_dict(), model.state_dict().values(), strict=True)))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images()), reference.eval()(images()))
        assert model.feature_maps(images()).shape[2:] == (4, 4)


def test_a_block_is_torchs_own_transformer_layer() -> None:
    torch.manual_seed(0)
    block = Block(64, 128)
    reference = nn.TransformerEncoderLayer(
        64, 2, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    attention = block.attention
    assert attention.heads == 2
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        reference.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.self_attn.in_proj_bias.copy_(
            torch.cat([attention.query.bias, torch.randn(64), attention.value.bias])  # Of the keys any bias will do.
        )
    for ours, theirs in (
        (attention.output, reference.self_attn.out_proj),
        (block.norm1, reference.norm1),
        (block.norm2, reference.norm2),
        (block.mlp.expand, reference.linear1),
        (block.mlp.reduce, reference.linear2),
    ):
        theirs.load_state_dict(ours.state_dict())
    maps = torch.randn(2, 64, 3, 5)
    with torch.no_grad():
        expected = reference.train()(maps.flatten(2).transpose(1, 2)).transpose(1, 2).view(2, 64, 3, 5)
        torch.testing.assert_close(block(maps), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 6, 48, 192])
def test_positions_tell_every_place_apart_and_only_depend_on_where_it_is(channels: int) -> None:
    for height, width in ((8, 8), (3, 3), (5, 7)):
        added = Positions()(torch.zeros(1, channels, height, width))[0]
        places = added.flatten(1).T
        distances = torch.cdist(places, places) + torch.eye(len(places)) * 9
        assert added.shape == (channels, height, width)
        assert channels < 6 or distances.min() > 0.05
    # The middle of the image is the middle on any grid.
    middle = [Positions()(torch.zeros(1, channels, side, side))[0, :, side // 2, side // 2] for side in (3, 5, 7)]
    torch.testing.assert_close(middle[0], middle[2])
    torch.testing.assert_close(middle[0], middle[1])


def test_a_transformer_sees_the_order_of_its_patches() -> None:
    torch.manual_seed(0)
    model = small("vit").eval()
    pictures = images()
    with torch.no_grad():
        turned = pictures.roll(4, dims=3)
        assert not torch.allclose(model(turned), model(pictures), atol=1e-5)
        # Without positions the patches are a bag: moving whole patches around would change nothing.
        del model.body.positions
        torch.testing.assert_close(model(turned), model(pictures))


@pytest.mark.parametrize("name", [name for name in NAMES if not MODELS[name].fixed_size])
@pytest.mark.parametrize("size", [SMALLEST_EARLY_SIZE, 18, 30])
def test_smaller_images_are_taken_where_the_size_is_not_fixed(name: str, size: int) -> None:
    model = small(name).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.randn(2, 3, size, size))).all()


def test_the_number_of_weights_of_the_transformers() -> None:
    def block(channels: int, hidden: int) -> int:
        attention = 4 * linear(channels, channels) - channels
        return attention + linear(channels, hidden) + linear(hidden, channels) + 4 * channels

    vit = conv(3, 192, 4, bias=True) + 6 * block(192, 768) + 2 * 192
    hybrid = conv_norm(3, 64) + conv_norm(64, 128) + conv_norm(128, 192) + 4 * block(192, 384) + 2 * 192
    assert count_parameters(create("vit", 10)) == vit + linear(192, 10)
    assert count_parameters(create("conv_transformer", 10)) == hybrid + linear(192, 10)


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_transfer_is_the_pretrained_network_on_enlarged_images(checkpoints: Path) -> None:
    from torchvision.models import resnet18

    reference = resnet18(weights=None)
    torch.save(reference.state_dict(), checkpoints / WEIGHTS_FILE)
    model = create("resnet18_transfer", 10).eval()
    reference.fc = model.head
    enlarged = nn.functional.interpolate(images(), 224, mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(model(images()), reference.eval()(enlarged))


def test_the_enlarged_image_is_no_layer_of_the_network() -> None:
    assert create("resnet18_transfer", 10, pretrained=False).layers[0] == "conv1"


def test_enlarging_and_normalising_commute() -> None:
    enlarge = models.Enlarge(224)
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(enlarge((pixels - 0.4) / 0.2), (enlarge(pixels) - 0.4) / 0.2)


@pytest.mark.parametrize(
    "failure",
    [
        URLError("no network"),
        HTTPError("https://example.org", 403, "no network", Message(), None),
        ConnectionResetError("no network"),
        RuntimeError("invalid hash value: no network"),
    ],
)
def test_missing_weights_are_one_sentence_with_the_place_to_put_them(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(WeightsUnavailable) as caught:
        create("resnet18_transfer", 10)
    message = str(caught.value)
    assert "could not be fetched" in message
    assert "no network" in message
    assert str(checkpoints / WEIGHTS_FILE) in message
    assert message.endswith("or choose another model.")
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_weights_placed_by_hand_that_cannot_be_read_are_one_sentence(checkpoints: Path, content: bytes | None) -> None:
    file = checkpoints / WEIGHTS_FILE
    if content is None:
        torch.save({"other": torch.zeros(1)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(
        WeightsUnavailable, match=r"cannot be read; delete the file and place .* or choose another model\.$"
    ):
        create("resnet18_transfer", 10)


def test_whitened_patches_are_uncorrelated_and_of_equal_variance() -> None:
    draws = torch.Generator().manual_seed(0)
    # Smooth, so that neighbours resemble each other as in a photograph.
    noise = torch.randn(200, 3, 18, 18, generator=draws)
    pictures = nn.functional.avg_pool2d(noise, 3, stride=1) * 3 + noise[:, :1, :16, :16]
    layer = Whitening()
    layer.fit(pictures)
    with torch.no_grad():
        responses = layer(pictures).permute(0, 2, 3, 1).reshape(-1, 24)
    assert torch.equal(responses[:, 12:], -responses[:, :12])
    covariance = responses[:, :12].T @ responses[:, :12] / len(responses)
    patches = nn.functional.unfold(pictures, 2).transpose(1, 2).reshape(-1, 12)
    variances = torch.linalg.eigvalsh(patches.T @ patches / len(patches)).flip(0)
    expected = (variances / (variances + SMOOTHING)).diag()
    torch.testing.assert_close(covariance, expected, rtol=0, atol=2e-4)


def test_airbench94_has_the_depth_and_the_widths_it_was_published_with() -> None:
    model = create("airbench94", 10, pretrained=False)
    layers = [layer for layer in model.body.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [
        *((24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256))
    ]
    weights = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert count_parameters(model) == weights + 2 * 64 + 4 * 256 + 256 * 10 + 10


def test_a_whitening_layer_learns_nothing_and_needs_no_gradient() -> None:
    model = small("airbench")
    assert not list(model.body.whiten.parameters())
    assert "body.whiten.weight" in model.state_dict()
    assert not model.body.whiten(torch.randn(2, 3, 32, 32)).requires_grad


@pytest.mark.parametrize("size", [2, 5, 6])
def test_gradients_over_patches_are_those_of_a_convolution(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside sums in float64 of the same bfloat16 numbers, so that only rounding is left: that of the results, and for
    the features' gradient, which torch computes, also that of its sums on processors without bfloat16."""
    monkeypatch.setattr(airbench_layout, "has_matrix_units", lambda: True)
    torch.manual_seed(0)
    layer = SmallMapConvolution(12, 16)
    features, pull = torch.randn(20, 12, size, size), torch.randn(20, 16, size, size)
    asked = features.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(asked)
    assert type(output.grad_fn).__name__ == "_PatchesBackward"
    output.float().backward(pull)

    def rounded(values: torch.Tensor) -> torch.Tensor:
        return values.detach().bfloat16().double()

    weight, inputs = rounded(layer.weight), rounded(features)
    reference = nn.functional.conv2d(inputs, weight, padding=1)
    torch.testing.assert_close(output.double(), reference, rtol=2**-8, atol=1e-6)
    to_features = nn.grad.conv2d_input(inputs.shape, weight, rounded(pull), padding=1)
    to_weight = nn.grad.conv2d_weight(inputs, weight.shape, rounded(pull), padding=1)
    assert (asked.grad.double() - to_features).norm() < 0.01 * to_features.norm()
    torch.testing.assert_close(layer.weight.grad.double(), to_weight, rtol=2**-7, atol=1e-3)


def test_patches_are_left_where_they_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SmallMapConvolution(4, 4)

    def way(size: int, precision: torch.dtype, tiles: bool) -> str:
        monkeypatch.setattr(airbench_layout, "has_matrix_units", lambda: tiles)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            return type(layer(torch.randn(2, 4, size, size)).grad_fn).__name__

    assert way(6, torch.bfloat16, True) == "_PatchesBackward"
    for large, precision, tiles in ((7, torch.bfloat16, True), (6, torch.float32, True), (6, torch.bfloat16, False)):
        assert way(large, precision, tiles) == "ConvolutionBackward0"
