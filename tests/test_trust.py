"""Whether a heat map can be trusted: deletion, insertion and drawn weights, against plain loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cifar_core.explain import explain
from cifar_core.models import Classifier, named
from cifar_core.trust import blur, curves, learnt_layers, random_maps, randomised, rank_correlation
from tests.test_explain import network, photos


def counting() -> Classifier:
    """Two classes; the logit of the second is the sum of the pixels, that of the first is 0."""
    head = nn.Linear(3 * 32 * 32, 2)
    with torch.no_grad():
        head.weight[0], head.weight[1], head.bias[:] = 0, 1, 0
    return Classifier(named(first=nn.Identity()), named(flatten=nn.Flatten()), head).eval()


def test_curves_equal_a_plain_loop_over_pixels():
    model, image = network("guide_cnn"), photos(1)[0]
    maps = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(1))
    found = curves(model, image, maps, 3, steps=8)
    soft = blur(image[None])[0]
    for number, heat in enumerate(maps):
        places = sorted(((r, c) for r in range(32) for c in range(32)), key=lambda at: -float(heat[at]))
        for step in range(9):
            without, coming = image.clone(), soft.clone()
            for r, c in places[: step * 128]:
                without[:, r, c] = 0
                coming[:, r, c] = image[:, r, c]
            for kind, changed in ((found.deletion, without), (found.insertion, coming)):
                with torch.no_grad():
                    wanted = float(model(changed[None]).softmax(1)[0, 3])
                assert kind[number, step] == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(found.shares, np.arange(9) / 8)


def test_the_true_map_of_a_sum_beats_chance_and_its_opposite():
    model = counting()
    image = torch.zeros(3, 32, 32)
    image[:, 4:8, 4:8] = 0.05
    true = image.mean(0)
    maps = torch.cat([true[None], -true[None], random_maps((8, 8), (32, 32))])
    found = curves(model, image, maps, 1)
    deletion, insertion = found.areas
    assert deletion[0] < deletion[2:].min()
    assert deletion[1] > deletion[2:].max()
    assert insertion[0] > insertion[2:].max()
    # After 16 of 1,024 pixels nothing is left, and 0 against 0 is one half.
    assert found.deletion[0, 1] == pytest.approx(0.5)
    assert found.deletion[0, 0] == pytest.approx(1 / (1 + np.exp(-0.05 * 48)))


def test_equal_places_come_in_an_order_by_chance_that_is_always_the_same():
    model, image = network("guide_cnn"), photos(1)[0]
    flat = torch.zeros(1, 32, 32)
    one, same, other = (curves(model, image, flat, 0, seed=seed).deletion for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_blur_keeps_what_is_even_and_spreads_a_point_by_gauss():
    even = torch.full((1, 3, 32, 32), 0.7)
    torch.testing.assert_close(blur(even), even)
    point = torch.zeros(1, 3, 32, 32)
    point[:, :, 16, 16] = 1
    spread = blur(point)[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert float(spread[16, 18] / spread[16, 16]) == pytest.approx(np.exp(-4 / 50), rel=1e-4)


def test_random_maps_are_as_coarse_as_asked():
    maps = random_maps((4, 4), (32, 32), 3)
    assert maps.shape == (3, 32, 32)
    assert (maps[:, 1:] - maps[:, :-1]).abs().max() < 0.2
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps, random_maps((4, 4), (32, 32), 3))


def test_the_rank_correlation_is_that_of_scipy():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    one = random.random((6, 6)).round(1)
    other = one + random.random((6, 6))
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert np.isnan(rank_correlation(one, np.zeros((6, 6))))


def test_layers_are_drawn_from_the_output_down_and_the_model_stays_as_it_was():
    model, image = network("resnet9"), photos(1)[0]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    before = torch.random.get_rng_state()
    steps = list(randomised(model, image, "grad_cam", 2, layer="layer2"))
    assert [step.layer for step in steps] == ["", *reversed(learnt_layers(model))]
    assert steps[1].layer == "head"
    assert steps[-1].layer == "body.prep.conv"
    assert steps[0].correlation == 1
    expected = explain(model, image[None], "grad_cam", torch.tensor([2]), layer="layer2")[0]
    np.testing.assert_array_equal(steps[0].map, expected.numpy())
    assert any(not np.array_equal(step.map, steps[0].map) for step in steps[1:])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), before)
    again = list(randomised(model, image, "grad_cam", 2, layer="layer2"))
    np.testing.assert_array_equal([step.correlation for step in again], [step.correlation for step in steps])


def test_a_map_that_ignores_what_was_learnt_is_found_out():
    """Eigen-CAM of the first layer asks nothing of what lies above it."""
    model, image = network("resnet9"), photos(1)[0]
    steps = list(randomised(model, image, "eigen_cam", 2, layer="prep"))
    above = [step.correlation for step in steps if not step.layer.startswith("body.prep")]
    assert above == pytest.approx([1] * len(above))
    below = [step.correlation for step in steps if step.layer == "body.prep.conv"]
    assert abs(below[0]) < 0.999


@pytest.mark.parametrize("name", ["airbench", "vit"])
def test_other_networks_can_be_drawn_anew_too(name):
    model = network(name)
    steps = list(randomised(model, photos(1)[0], "grad_cam", 2))
    assert len(steps) == len(learnt_layers(model)) + 1 > 5
    assert any(step.correlation < 0.9 for step in steps)
