"""Muon against torch's own on matrices and AdamW on everything else; every optimiser is the one that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cifar_core.config import FIELDS, MODELS, TrainConfig
from cifar_core.models import Classifier, create
from cifar_core.optimisers import Muon, optimiser, orthogonalised, pulled_to_zero

OPTIMISERS = FIELDS["optimizer"].metadata["choices"]
SHAPES = {"linear": (24, 40), "tall": (40, 24), "square": (16, 16), "conv": (12, 6, 3, 3), "wide conv": (4, 16, 3, 3)}


class Shaped(nn.Module):
    """Stands in for a classifier: one hidden weight of some shape, one bias, and a head."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.hidden = nn.Parameter(torch.randn(shape, generator=draws))
        self.bias = nn.Parameter(torch.randn(shape[0], generator=draws))
        self.head = nn.Linear(5, 3)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draws))


def small(**settings: Any) -> Classifier:
    torch.manual_seed(0)
    return create("guide_cnn_optimised", 3, width=0.125, **settings)


def gradient(parameter: Tensor, step: int) -> Tensor:
    """Neither of one size nor of one direction over the steps."""
    draws = torch.Generator().manual_seed(1000 * step + parameter.numel())
    return torch.randn(parameter.shape, generator=draws) * (1 + step % 3)


def with_gradients(parameters: list[nn.Parameter], step: int) -> None:
    for parameter in parameters:
        parameter.grad = gradient(parameter, step).reshape(parameter.shape)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's Newton-Schulz iteration without its rounding to bfloat16, which is all that is different."""
    # A copy, as it is changed in place.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda matrix: matrix.float().clone())


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.95, True), (0.95, False), (0.5, True), (0.0, False)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_muon_is_torchs_muon_on_the_flattened_weight(
    shape: str, momentum: float, nesterov: bool, weight_decay: float
) -> None:
    model = Shaped(*SHAPES[shape])
    matrix = nn.Parameter(model.hidden.detach().flatten(1).clone())
    rule = {"lr": 0.02, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
    ours = Muon(model, **rule)  # type: ignore[arg-type]
    theirs = torch.optim.Muon([matrix], adjust_lr_fn="match_rms_adamw", **rule)
    for step in range(8):
        with_gradients([model.hidden], step)
        assert model.hidden.grad is not None
        matrix.grad = model.hidden.grad.flatten(1).clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(model.hidden.detach().flatten(1), matrix.detach(), rtol=1e-4, atol=1e-5)


def test_rounding_to_bfloat16_as_torch_does_makes_a_small_difference() -> None:
    """Eight bits: a few percent of what the weights have moved, in no direction of its own."""
    model = Shaped(24, 40)
    before, matrix = model.hidden.detach().clone(), nn.Parameter(model.hidden.detach().clone())
    ours = Muon(model, lr=0.02, weight_decay=0.1, momentum=0.95)  # type: ignore[arg-type]
    theirs = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(8):
        with_gradients([model.hidden, matrix], step)
        ours.step()
        theirs.step()
    apart, moved = (model.hidden - matrix).norm(), (matrix - before).norm()
    assert 0 < apart < 0.05 * moved


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_biases_norms_and_the_head_take_the_steps_of_adamw(weight_decay: float) -> None:
    model, twin = small(), small()
    head = [*twin.head.parameters()]
    others = [p for p in twin.parameters() if p.ndim < 2 or any(p is q for q in head)]
    ours = Muon(model, lr=0.01, weight_decay=weight_decay)
    theirs = torch.optim.AdamW(others, lr=0.01, weight_decay=weight_decay)
    for step in range(8):
        for network in (model, twin):
            with_gradients(list(network.parameters()), step)
        ours.step()
        theirs.step()
    compared = 0
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        if any(other is q for q in others):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
            compared += 1
        else:
            assert not torch.equal(one, other)
    assert compared == len(others) > 4


@pytest.mark.parametrize("name", [name for name in MODELS if not MODELS[name].pretrained])
def test_muon_turns_hidden_weights_alone(name: str) -> None:
    model = create(name, 3, width=0.25)
    groups = Muon(model, lr=0.01, weight_decay=0.0).param_groups
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    split = {group["orthogonal"]: {names[id(p)] for p in group["params"]} for group in groups}
    layers = {
        f"{path}.weight"
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not model.head
    }
    assert split[True] == layers
    assert split[False] == {key for key, _ in model.named_parameters()} - layers
    assert {"head.weight", "head.bias"} <= split[False]


def test_a_convolution_in_any_memory_layout_is_turned_alike() -> None:
    plain, rearranged = small(), small().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for network in (plain, rearranged):
        rule = Muon(network, lr=0.05, weight_decay=0.01)
        for step in range(3):
            with_gradients(list(network.parameters()), step)
            rule.step()
    for one, other in zip(plain.parameters(), rearranged.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_of_muon_is_as_large_as_one_of_adamw() -> None:
    """Root mean square 0.2, which is what Liu et al. (2025) measured for AdamW; the singular values are about 1."""
    for shape in SHAPES.values():
        model = Shaped(*shape)
        before = model.hidden.detach().clone()
        with_gradients([model.hidden], 0)
        Muon(model, lr=1.0, weight_decay=0.0).step()  # type: ignore[arg-type]
        assert 0.2 * 0.6 < (model.hidden - before).square().mean().sqrt() < 0.2 * 1.3


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_with_fixed_norms_a_weight_turns_by_a_share_of_its_norm_and_keeps_it(shape: tuple[int, ...]) -> None:
    free, fixed = Shaped(*shape), Shaped(*shape)
    before = free.hidden.detach().clone()
    for model, is_fixed in ((free, False), (fixed, True)):
        rule = Muon(model, lr=0.3, weight_decay=0.0, fixed_norm=is_fixed)  # type: ignore[arg-type]
        with_gradients([model.hidden], 1)
        rule.step()
    direction = free.hidden.detach() - before
    turned = before + 0.3 * before.norm() * direction / direction.norm()
    torch.testing.assert_close(fixed.hidden.detach(), turned * before.norm() / turned.norm())
    torch.testing.assert_close(fixed.hidden.norm(), before.norm())


def test_with_fixed_norms_the_other_weights_take_a_tenth_of_the_step() -> None:
    steps = []
    for rate, is_fixed in ((0.01, False), (0.1, True)):
        model = Shaped(4, 4)
        with_gradients([model.bias], 1)
        Muon(model, lr=rate, weight_decay=0.1, fixed_norm=is_fixed).step()  # type: ignore[arg-type]
        steps.append(model.bias.detach())
    torch.testing.assert_close(*steps)


def test_muon_leaves_what_has_no_gradient_alone() -> None:
    model = Shaped(4, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rule = Muon(model, lr=0.1, weight_decay=0.1)  # type: ignore[arg-type]
    model.hidden.grad = torch.ones(4, 6)
    rule.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"hidden"}


def test_muon_works_with_a_closure() -> None:
    model = Shaped(4, 6)

    def closure() -> float:
        assert torch.is_grad_enabled()
        loss = model.hidden.square().sum()
        loss.backward()
        return loss.item()

    before = model.hidden.square().sum().item()
    assert Muon(model, lr=0.1, weight_decay=0.0).step(closure) == before  # type: ignore[arg-type]
    assert model.hidden.square().sum().item() < before


# The Newton-Schulz iteration -----------------------------------------------------------------------------------------


def made_of(singular: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix with these singular values, and its left and right vectors."""
    draws = torch.Generator().manual_seed(rows * columns)
    left, _ = torch.linalg.qr(torch.randn(rows, len(singular), generator=draws))
    right, _ = torch.linalg.qr(torch.randn(columns, len(singular), generator=draws))
    return left @ singular.diag() @ right.T, left, right


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (8, 72), (72, 8), (64, 64), (1, 9), (9, 1)])
def test_singular_values_end_near_one_and_the_vectors_stay(rows: int, columns: int, size: float) -> None:
    rank = min(rows, columns)
    matrix, left, right = made_of(size * torch.linspace(1, 10, rank), rows, columns)
    turned = orthogonalised(matrix)
    assert turned.shape == matrix.shape
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # In the basis of the old vectors it is diagonal: nothing but the singular values has changed.
    inside = left.T @ turned @ right
    torch.testing.assert_close(inside, inside.diagonal().diag(), rtol=0, atol=1e-4)


def test_zero_stays_zero() -> None:
    assert torch.equal(orthogonalised(torch.zeros(5, 7)), torch.zeros(5, 7))


def test_the_sign_and_the_scale_of_a_matrix() -> None:
    matrix, _, _ = made_of(torch.linspace(1, 3, 6), 6, 10)
    torch.testing.assert_close(orthogonalised(-matrix), -orthogonalised(matrix))
    torch.testing.assert_close(orthogonalised(100 * matrix), orthogonalised(matrix), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(orthogonalised(matrix.T), orthogonalised(matrix).T)


def test_the_matrix_that_is_given_stays_as_it_is() -> None:
    matrix = torch.randn(6, 4)
    before = matrix.clone()
    orthogonalised(matrix)
    assert torch.equal(matrix, before)


# All of them ---------------------------------------------------------------------------------------------------------

CLASSES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "muon": Muon,
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_optimiser_has_the_settings_of_the_run(name: str) -> None:
    settings = {"momentum": 0.7, "nesterov": False, "weight_decay": 0.03, "learning_rate": 0.04}
    rule = optimiser(TrainConfig.from_values({"optimizer": name, **settings}), small())
    assert isinstance(rule, CLASSES[name])
    for group in rule.param_groups:
        assert group["lr"] == 0.04
        assert group["weight_decay"] == 0.03
        for setting in ("momentum", "nesterov"):
            used = name in FIELDS[setting].metadata["used_by"]["optimizer"]
            assert group.get(setting) == (settings[setting] if used else None), setting


@pytest.mark.parametrize("name", [*FIELDS["momentum"].metadata["used_by"]["optimizer"]])
@pytest.mark.parametrize(("before", "after"), [(0.0, 0.9), (0.9, 0.0), (0.5, 0.9)])
def test_momentum_may_change_while_it_trains(name: str, before: float, after: float) -> None:
    """As if there had been none where it was zero, and with what was there where it was not."""
    model, twin = small(), small()
    rate, settings = 0.01, {"optimizer": name, "learning_rate": 0.01, "nesterov": name == "muon"}
    ours, other = (
        optimiser(TrainConfig.from_values({**settings, "momentum": momentum}), network)
        for momentum, network in ((before, model), (after, twin))
    )
    for step in range(3):
        with_gradients(list(model.parameters()), step)
        ours.step()
    twin.load_state_dict(model.state_dict())
    for weight, same in zip(model.parameters(), twin.parameters(), strict=True):
        remembered = {key: value.clone() for key, value in ours.state[weight].items() if value is not None}
        if name == "rmsprop" and after > 0:
            remembered.setdefault("momentum_buffer", torch.zeros_like(weight))
        other.state[same].update(remembered)
    for group in ours.param_groups:
        group["momentum"] = after
    assert {group["lr"] for group in ours.param_groups} == {rate}
    for step in range(3, 6):
        for network, rule in ((model, ours), (twin, other)):
            with_gradients(list(network.parameters()), step)
            rule.step()
    for weight, same in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, same)


@pytest.mark.parametrize("strength", [0.0, 1e-3, 0.5])
def test_a_constant_pull_is_the_gradient_of_the_sum_of_absolute_weights(strength: float) -> None:
    model, twin = Shaped(4, 6), Shaped(4, 6)
    with torch.no_grad():
        for network in (model, twin):
            network.hidden[0, 0] = 0.0  # Where torch takes 0 of all the slopes there are.
    (model.hidden.sin().sum() + model.bias.exp().sum()).backward()
    pulled_to_zero(model.parameters(), strength)
    l1 = sum(parameter.abs().sum() for parameter in (twin.hidden, twin.bias))
    (twin.hidden.sin().sum() + twin.bias.exp().sum() + strength * l1).backward()
    torch.testing.assert_close(model.hidden.grad, twin.hidden.grad)
    torch.testing.assert_close(model.bias.grad, twin.bias.grad)
    assert model.head.weight.grad is None
    assert math.isclose(float(model.hidden.grad[0, 0]), 1.0)  # type: ignore[index]
