"""What is unlike the images a network knows, and which of them shaped an answer: against closed forms and autograd."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifar_core import job
from cifar_core.familiarity import (
    FALSE_ALARMS,
    FamiliarityError,
    Known,
    allowed_alarms,
    distances,
    energy,
    pulled_most,
    shares_below,
    unit,
)
from cifar_core.networks import load_network
from cifar_core.runs import Run
from tests.conftest import Tiny

RANDOM = np.random.default_rng(0)


def known(images: int = 40, others: int = 500, classes: int = 4, width: int = 6) -> Known:
    random = np.random.default_rng(1)
    logits = random.normal(size=(images, classes))
    return Known(
        features=random.normal(size=(images, width)).astype(np.float16),
        probabilities=(np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32),
        labels=random.integers(0, classes, images),
        indices=np.arange(images) * 2,
        energies={name: random.normal(size=others).astype(np.float32) for name in ("validation", "test")},
        distances={name: random.normal(size=others).astype(np.float32) for name in ("validation", "test")},
        biased=True,
        facts={"run": "one"},
    )


def test_the_energy_is_minus_the_log_of_the_sum_of_exponentials():
    logits = RANDOM.normal(size=(5, 10)) * 30
    expected = -torch.logsumexp(torch.from_numpy(logits), 1).numpy()
    np.testing.assert_allclose(energy(logits), expected, rtol=1e-5)
    assert np.isfinite(energy(np.array([[1e4, -1e4]]))).all()


def test_distances_are_those_of_a_plain_loop():
    features, others = RANDOM.normal(size=(60, 7)), RANDOM.normal(size=(9, 7))
    expected = []
    for other in others / np.linalg.norm(others, axis=1, keepdims=True):
        far = sorted(float(np.linalg.norm(other - one / np.linalg.norm(one))) for one in features)
        expected.append(far[4])
    found = np.concatenate(list(distances(unit(features.astype(np.float32)), others, neighbours=5)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    farthest = np.concatenate(list(distances(unit(features[:3].astype(np.float32)), others, neighbours=50)))
    assert (farthest >= np.concatenate(list(distances(unit(features[:3].astype(np.float32)), others, 1)))).all()


@pytest.mark.parametrize("biased", [True, False])
def test_influence_is_the_dot_product_of_gradients_of_the_last_layer(biased):
    table = known()
    table = Known(**{**{name: getattr(table, name) for name in table.__dataclass_fields__}, "biased": biased})
    head = nn.Linear(6, 4, bias=biased).double()
    features = torch.from_numpy(table.features.astype(np.float64))
    with torch.no_grad():
        probabilities = head(features).softmax(1)
    table = Known(
        **{
            **{name: getattr(table, name) for name in table.__dataclass_fields__},
            "probabilities": probabilities.numpy().astype(np.float32),
        }
    )

    def gradient(feature: torch.Tensor, label: int) -> torch.Tensor:
        head.zero_grad()
        F.cross_entropy(head(feature[None]), torch.tensor([label])).backward()
        return torch.cat([weights.grad.flatten() for weights in head.parameters()])

    image = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer = head(image).softmax(0).numpy()
    found = table.influence(image.numpy(), answer, 2)
    own = gradient(image, 2)
    expected = [float(own @ gradient(features[i], int(table.labels[i]))) for i in range(len(features))]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.min() < 0 < found.max()


def test_a_step_on_what_pulls_towards_a_class_lowers_its_loss():
    table = known()
    image, wanted = RANDOM.normal(size=6), 1
    logits = RANDOM.normal(size=4)
    answer = np.exp(logits) / np.exp(logits).sum()
    influence = table.influence(image, answer, wanted)
    towards, away = pulled_most(influence, 3)
    for rows, sign in ((towards, -1), (away, 1)):
        row = rows[0]
        error = table.probabilities[row].astype(float)
        error[table.labels[row]] -= 1
        step = -1e-3 * error * (table.features[row].astype(float) @ image + 1)
        before, after = (-np.log(np.exp(z[wanted]) / np.exp(z).sum()) for z in (logits, logits + step))
        assert np.sign(after - before) == sign
        assert after - before == pytest.approx(-1e-3 * influence[row], rel=0.05)
    assert [influence[row] for row in towards] == sorted(influence, reverse=True)[:3]
    assert pulled_most(np.array([1.0, 2.0]), 5) == ([1, 0], [])


def test_the_nearest_training_images_are_those_of_the_largest_cosine():
    table = known()
    rows, cosines = table.nearest(table.features[7].astype(np.float32) * 3, 4)
    assert rows[0] == 7
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert (np.diff(cosines) <= 0).all()


def test_shares_below_are_ranks_from_none_to_all():
    values = np.array([3.0, 1.0, 2.0, 4.0])
    np.testing.assert_allclose(shares_below(values, np.array([0.0, 1.0, 2.5, 9.0])), [0, 0, 0.5, 1])


@pytest.mark.parametrize("images", [90, 500, 5000])
def test_the_threshold_keeps_its_promise_on_further_images(images):
    """Drawn many times: the share above the threshold is too large in at most about one case of a hundred."""
    random = np.random.default_rng(images)
    allowed = allowed_alarms(images)
    too_many = 0
    for _ in range(400):
        drawn = np.sort(random.random(images))
        too_many += 1 - drawn[images - 1 - allowed] > FALSE_ALARMS
    assert too_many <= 12
    # Not by never giving an alarm.
    assert allowed > 0.6 * FALSE_ALARMS * images or images < 1000


def test_few_validation_images_promise_nothing():
    assert known(others=500).promised
    assert not known(others=50).promised
    few = known(others=50)
    assert few.threshold == pytest.approx(
        few.strangeness(few.energies["validation"], few.distances["validation"]).max()
    )


def test_what_is_far_or_of_high_energy_is_foreign_and_false_alarms_are_few():
    table = known(others=4000)
    assert table.false_alarms <= FALSE_ALARMS
    assert table.false_alarms > 0.02
    calm = np.array([-1.0])
    assert not table.foreign(calm, calm)[0]
    assert table.foreign(np.array([9.0]), calm)[0]
    assert table.foreign(calm, np.array([9.0]))[0]


def test_what_is_kept_is_what_was_known(tmp_path):
    table = known()
    (tmp_path / "known.npz").write_bytes(table.content())
    again = Known.load(tmp_path / "known.npz")
    np.testing.assert_array_equal(again.features, table.features)
    np.testing.assert_array_equal(again.energies["validation"], table.energies["validation"])
    assert again.facts == {"run": "one"}
    assert again.biased
    (tmp_path / "known.npz").write_bytes(table.content()[:500])
    with pytest.raises(FamiliarityError, match=r"known\.npz is missing or damaged; compute it again\."):
        Known.load(tmp_path / "known.npz")


def test_the_task_looks_at_the_images_the_run_was_trained_on(tiny: Tiny, trained_run: Run) -> None:
    from cifar_core.datasets import open_cached
    from cifar_core.subsets import training_indices

    folder, task = job.familiarity_task(trained_run, "best", tiny.info)
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        events = list(job.execute_task(folder, tiny.cache))
    assert events[-1].outcome == "finished", events[-1]
    table = Known.load(folder.path / "known.npz")
    opened = open_cached(tiny.info.id, tiny.cache)
    trained, held_out = training_indices(trained_run.config, opened)
    np.testing.assert_array_equal(table.indices, trained)
    np.testing.assert_array_equal(table.labels, np.asarray(opened.train.labels)[trained])
    network = load_network(Path(trained_run.checkpoints()["best"]))
    features = torch.cat(list(network.embeddings(opened.train.images[trained])))
    np.testing.assert_allclose(table.features, features.numpy(), rtol=1e-2, atol=1e-3)
    expected = network.probabilities(opened.train.images[trained]).numpy()
    np.testing.assert_allclose(table.probabilities, expected, atol=1e-5)
    assert len(table.energies["validation"]) == len(held_out)
    logits = torch.cat(list(network.logits(opened.test.images)))
    np.testing.assert_allclose(table.energies["test"], -logits.logsumexp(1).numpy(), rtol=1e-4)
    assert table.facts["training_images"] == len(trained)
    assert table.facts["run"] == trained_run.id
