"""What layers respond to, against a plain reckoning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cifar_core.activations import STRONGEST, filter_pictures, first_filters, layer_maps, marked, strongest
from cifar_core.models import REGISTRY, create
from cifar_core.networks import Network

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    model = create("resnet9", 3, width=0.0625).eval().to(memory_format=torch.channels_last)
    return Network(model, CLASSES, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), {})


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (31, 3, 32, 32), dtype=np.uint8)


def by_hooks(network: Network, images: np.ndarray) -> dict[str, torch.Tensor]:
    """The outputs of the layers in an ordinary forward pass."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(network.model.body, name).register_forward_hook(
            lambda _, __, maps, name=name: seen.__setitem__(name, maps.detach().clone())
        )
        for name in network.model.layers
    ]
    with torch.no_grad():
        network.model(network.normalise(torch.from_numpy(images)))
    for hook in hooks:
        hook.remove()
    return seen


def test_the_maps_of_every_layer_are_those_of_a_forward_pass(network: Network, images: np.ndarray) -> None:
    found, seen = layer_maps(network, images[3]), by_hooks(network, images[3:4])
    assert list(found) == list(network.model.layers)
    for name, maps in found.items():
        np.testing.assert_allclose(maps, seen[name][0].numpy(), atol=1e-5)


@pytest.mark.parametrize("batch", [7, 31])
def test_the_strongest_images_of_each_channel_are_those_of_a_full_sort(
    network: Network, images: np.ndarray, batch: int
) -> None:
    labels = np.arange(31) % 3
    *_, (done, found) = strongest(network, images, labels, batch=batch)
    assert done == 31
    for name, maps in by_hooks(network, images).items():
        peaks = maps.amax((2, 3)).numpy()
        one = found[name]
        assert one.size == tuple(maps.shape[2:])
        np.testing.assert_allclose(one.values, -np.sort(-peaks.T, axis=1)[:, :STRONGEST], atol=1e-5)
        for channel in (0, maps.shape[1] - 1):
            for k in (0, STRONGEST - 1):
                image, row, column = one.images[channel, k], one.rows[channel, k], one.columns[channel, k]
                assert maps[image, channel, row, column] == pytest.approx(one.values[channel, k], abs=1e-5)
        for k in range(3):
            np.testing.assert_allclose(one.by_class[:, k], peaks[labels == k].mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.active, (peaks > 0).mean(axis=0), atol=1e-6)


def test_fewer_images_than_are_kept_are_all_kept(network: Network, images: np.ndarray) -> None:
    *_, (_, found) = strongest(network, images[:5], np.zeros(5, np.int64))
    one = found["prep"]
    assert one.values.shape[1] == 5
    assert set(one.images[0].tolist()) == set(range(5))
    assert np.isnan(one.by_class[:, 1]).all(), "of a class without images nothing is known"


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"resnet18_transfer"}))
def test_every_network_that_begins_with_a_convolution_shows_its_filters(name: str) -> None:
    model = create(name, 3, width=1.0 if name == "resnet18" else 0.25)
    found = first_filters(model)
    assert found is not None
    assert found.weights.shape[1] == 3
    assert found.layer in dict(model.body.named_children())
    assert found.learned == (not name.startswith("airbench")), "whitening is not learned"


def test_filters_are_drawn_around_grey_each_by_its_largest_weight() -> None:
    weights = np.zeros((2, 3, 1, 2), np.float32)
    weights[0, 0, 0, 0], weights[0, 2, 0, 1] = 0.5, -0.25
    drawn = filter_pictures(weights)
    assert drawn[0, 0, 0, 0] == 255
    assert drawn[0, 2, 0, 1] == 64
    assert drawn[0, 1].tolist() == [[128, 128]]
    assert (drawn[1] == 128).all()


@pytest.mark.parametrize(
    ("row", "column", "size"), [(0, 0, (2, 2)), (1, 1, (2, 2)), (31, 31, (32, 32)), (0, 3, (4, 4))]
)
def test_a_frame_is_drawn_around_the_cell_and_nowhere_else(row: int, column: int, size: tuple[int, int]) -> None:
    large = marked(np.full((1, 3, 32, 32), 100, np.uint8), [row], [column], size)
    assert large.shape == (1, 3, 96, 96)
    rows, columns = np.nonzero(large[0, 0] != 100)
    top, left = row * 96 // size[0], column * 96 // size[1]
    height, width = max(96 // size[0], 6), max(96 // size[1], 6)
    assert rows.min() >= min(top, 90)
    assert rows.max() < min(top, 96 - height) + height
    assert columns.min() >= min(left, 90)
    assert columns.max() < min(left, 96 - width) + width
    assert {0, 255} == set(np.unique(large)) - {100}


def test_the_images_themselves_stay_as_they_are(images: np.ndarray) -> None:
    before = images.copy()
    marked(images[:2], [0, 1], [0, 1], (4, 4))
    assert np.array_equal(images, before)
