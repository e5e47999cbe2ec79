"""Attacks on a linear network, where the best change of an image is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cifar_core.attacks import FARTHEST, fgsm, pgd, predicted, smallest_flip
from cifar_core.models import Classifier
from cifar_core.networks import Network


class Linear(Classifier):
    """Logits that are a linear function of the pixels."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        body = torch.nn.Sequential()
        body.add_module("as_it_is", torch.nn.Identity())
        super().__init__(body, torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, classes))
        torch.manual_seed(seed)
        torch.nn.init.normal_(self.head.weight, std=0.3)
        torch.nn.init.zeros_(self.head.bias)


def network(classes: int = 2, std: float = 0.25) -> Network:
    model = Linear(classes).eval().requires_grad_(False)
    names = tuple(f"class {k}" for k in range(classes))
    return Network(model, names, (0.5, 0.5, 0.5), (std, std, std), {})


@pytest.fixture
def images() -> Tensor:
    """(40, 3, 8, 8) near mid-grey, so that no value is cut off at black or white."""
    return 0.5 + (torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.2


def reach(net: Network, image: Tensor) -> float:
    """The smallest epsilon that flips a linear network of two classes: margin / 1-norm of the weights' difference."""
    weights = net.model.head.weight / net.std[0]
    logits = net.model(net.normalise(image[None]))[0]
    return float((logits[0] - logits[1]).abs() / (weights[0] - weights[1]).abs().sum())


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_on_two_linear_classes_the_margin_falls_by_epsilon_times_the_norm(attack, images: Tensor) -> None:
    net, epsilon = network(), 2 / 255
    labels = predicted(net, images)
    moved = attack(net, images, labels, epsilon)
    before, after = (net.model(net.normalise(each)) for each in (images, moved))
    rows = torch.arange(len(images))
    lost = (before[rows, labels] - before[rows, 1 - labels]) - (after[rows, labels] - after[rows, 1 - labels])
    weights = net.model.head.weight / net.std[0]
    assert lost.tolist() == pytest.approx([epsilon * float((weights[0] - weights[1]).abs().sum())] * 40, rel=1e-3)


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_no_value_changes_by_more_than_epsilon_or_leaves_the_picture(attack) -> None:
    net = network(5)
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(2)).round(decimals=1)
    labels = torch.arange(20) % 5
    moved = attack(net, images, labels, 8 / 255)
    assert float((moved - images).abs().max()) <= 8 / 255 + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert torch.equal(attack(net, images, labels, 0.0), images)
    assert torch.equal(attack(net, images, labels, 8 / 255), moved), "the same each time"


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_the_smallest_epsilon_is_found_by_halving(method: str, images: Tensor) -> None:
    net = network()
    for image in images[:6]:
        expected = 255 * reach(net, image)
        found = smallest_flip(net, image, method)
        assert found is not None
        assert found.epsilon == pytest.approx(expected, rel=0.002)
        assert found.below <= expected * 1.0001
        assert found.after != found.before == int(predicted(net, image[None])[0])
        assert int(predicted(net, found.image[None])[0]) == found.after


def test_an_image_that_nothing_turns_has_no_smallest_epsilon(images: Tensor) -> None:
    net = network()
    # So sure of the first class that no change of an image matters.
    net.model.head.bias.copy_(torch.tensor([1e6, 0.0]))
    assert smallest_flip(net, images[0], "fgsm") is None
    assert FARTHEST == 64


def test_the_network_is_as_before(images: Tensor) -> None:
    net = network()
    before = net.model.head.weight.clone()
    pgd(net, images, torch.zeros(len(images), dtype=torch.long), 4 / 255)
    assert torch.equal(net.model.head.weight, before)
    assert net.model.head.weight.grad is None
