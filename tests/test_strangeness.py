"""What is unlike the images a network knows: against scikit-learn's measures, and what is promised of false alarms."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.foreign import SEEN, UNSEEN, drawn, separation
from cifar_core import job, runs
from cifar_core.datasets import open_cached
from cifar_core.networks import load_network
from cifar_core.runs import Run
from cifar_core.strangeness import (
    FALSE_ALARMS,
    Gaussian,
    Strangeness,
    StrangenessError,
    allowed_alarms,
    as_jpeg,
    centres,
    chosen_layers,
    distances,
    energy,
    look,
)
from tests.conftest import ROOT, Tiny

RANDOM = np.random.default_rng(0)


def kept(validation: int = 500, test: int = 4000) -> Strangeness:
    """One of two measures and a layer, whose values for known images are normal."""
    random = np.random.default_rng(1)
    values = random.normal(size=(validation, 3)).astype(np.float32)
    layer = Gaussian(np.zeros(2, np.float32), np.eye(2, dtype=np.float16)[:1], np.ones(1, np.float32), 1.0)
    made = Strangeness({"conv1": layer}, np.eye(3, dtype=np.float16), values, np.zeros((0, 4), np.float32), 0.0, {})
    others = random.normal(size=(test, 3)).astype(np.float32)
    own = np.column_stack([others, made.altogether(others)])
    quantiles = np.quantile(own, np.linspace(0, 1, 501), axis=0).astype(np.float32)
    alarms = float(made.foreign(others).mean())
    return Strangeness(made.layers, made.prototypes, values, quantiles, alarms, {"run": "one"})


# The measures --------------------------------------------------------------------------------------------------------


def test_the_energy_is_minus_the_log_of_the_sum_of_exponentials():
    logits = RANDOM.normal(size=(5, 10)) * 30
    expected = -torch.logsumexp(torch.from_numpy(logits), 1).numpy()
    np.testing.assert_allclose(energy(logits), expected, rtol=1e-5)
    assert np.isfinite(energy(np.array([[1e4, -1e4]]))).all()


def test_distances_are_those_of_the_nearest_neighbours_of_scikit_learn():
    prototypes, features = RANDOM.normal(size=(30, 7)), RANDOM.normal(size=(9, 7)) * 5
    directions = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (prototypes, features)]
    expected = NearestNeighbors(n_neighbors=1).fit(directions[0]).kneighbors(directions[1])[0][:, 0]
    np.testing.assert_allclose(distances(prototypes, features), expected, atol=1e-3)


def test_with_one_direction_left_over_it_is_the_mahalanobis_distance_of_scikit_learn():
    """Then nothing is averaged: the distribution has the whole covariance."""
    values = RANDOM.normal(size=(400, 2)) @ np.array([[2.0, 0.3], [0.1, 0.5]]) + 5
    others = RANDOM.normal(size=(20, 2)) * 3 + 4
    empirical = EmpiricalCovariance().fit(values)
    # Of the sample, which scikit-learn divides by N there and by N - 1 in the PCA.
    expected = empirical.mahalanobis(others) * (len(values) - 1) / len(values)
    np.testing.assert_allclose(Gaussian.fit(values).distances(others), expected, rtol=2e-2)


def test_directions_left_out_share_their_mean_variance():
    values = RANDOM.normal(size=(500, 12)) * np.geomspace(5, 0.5, 12)
    found = Gaussian.fit(values, components=4)
    covariance = np.cov(values.T)
    variances, directions = np.linalg.eigh(covariance)
    rest = variances[:-4].mean()
    assert found.rest == pytest.approx(rest, rel=1e-3)
    modelled = directions[:, -4:] @ np.diag(variances[-4:] - rest) @ directions[:, -4:].T + rest * np.eye(12)
    away = RANDOM.normal(size=(7, 12)) * 4
    expected = np.einsum("ni,ij,nj->n", away, np.linalg.inv(modelled), away)
    np.testing.assert_allclose(found.distances(away + values.mean(0)), expected, rtol=1e-2)


def test_a_value_that_never_changed_does_not_make_all_others_foreign():
    values = np.column_stack([RANDOM.normal(size=(300, 2)), np.full((300, 2), 2.0)])
    found = Gaussian.fit(values)
    assert found.distances(values).mean() < 3
    assert found.distances(values + np.array([0, 0, 1e-2, 0])).mean() < 4


def test_prototypes_are_directions_in_the_middle_of_what_they_stand_for():
    features = np.repeat(np.eye(4), 50, axis=0) * 3 + RANDOM.normal(0, 0.01, (200, 4))
    found = centres(features, most=4).astype(float)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.sort(found.argmax(1)), range(4))


def test_layers_are_looked_at_through_the_means_and_deviations_of_their_channels(trained_run: Run, tiny: Tiny):
    network = load_network(trained_run.checkpoints()["best"])
    pixels = open_cached(tiny.info.id, tiny.cache).test.images[:3]
    looked = look(network, pixels, ("conv1",))
    maps = network.model.body.conv1(network.normalise(torch.from_numpy(np.array(pixels)))).numpy()
    expected = np.concatenate([maps.mean((2, 3)), np.log(maps.std((2, 3)) + 0.02)], 1)
    np.testing.assert_allclose(looked.layers["conv1"], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(looked.logits, next(iter(network.logits(pixels))).numpy(), atol=1e-4)
    assert chosen_layers(network)[-1] == network.model.layers[-1]


def test_a_picture_counts_alike_however_it_was_saved():
    """A JPEG of a JPEG is nearly the same picture; fine colour, which no JPEG keeps, is gone from both."""
    pixels = drawn("painted portrait", SEEN["painted portrait"], 4)
    once = as_jpeg(pixels)
    assert np.abs(once.astype(int) - pixels).mean() > 1.5
    file = io.BytesIO()
    Image.fromarray(pixels[0].transpose(1, 2, 0)).save(file, "JPEG", quality=75, subsampling="4:2:0")
    np.testing.assert_array_equal(once[0].transpose(1, 2, 0), np.asarray(Image.open(file)))
    assert np.abs(as_jpeg(once).astype(int) - once).mean() < 0.5 * np.abs(once.astype(int) - pixels).mean()


# Altogether ----------------------------------------------------------------------------------------------------------


def test_altogether_is_the_sum_of_fisher():
    made = kept(validation=40)
    # Some of them as strange as a validation image, which then counts.
    values = np.concatenate([RANDOM.normal(size=(6, 3)), made.validation[:3]]).astype(np.float32)
    for row, total in zip(values, made.altogether(values), strict=True):
        p = [(1 + (made.validation[:, k] >= row[k]).sum()) / 41 for k in range(3)]
        assert total == pytest.approx(-2 * np.log(p).sum())


@pytest.mark.parametrize("images", [90, 500, 5000])
def test_the_threshold_keeps_its_promise_on_further_images(images: int):
    """Drawn many times: the share above the threshold is too large in at most about one case of a hundred."""
    random = np.random.default_rng(images)
    allowed = allowed_alarms(images)
    too_many = 0
    for _ in range(400):
        values = np.sort(random.random(images))
        too_many += 1 - values[images - 1 - allowed] > FALSE_ALARMS
    assert too_many <= 12
    # Not by never giving an alarm.
    assert allowed > 0.6 * FALSE_ALARMS * images or images < 1000


def test_few_validation_images_promise_nothing():
    assert kept(validation=500).promised
    few = kept(validation=50)
    assert not few.promised
    assert few.threshold == few.altogether(few.validation).max()


def test_measures_together_keep_to_the_false_alarms_of_one():
    made = kept(validation=4000)
    assert 0.03 < made.false_alarms <= FALSE_ALARMS


def test_what_is_strange_by_one_measure_or_a_little_by_all_is_foreign():
    made = kept()
    assert not made.foreign(np.array([[-1.0, -1, -1]]))[0]
    assert made.foreign(np.array([[9.0, 1, 1]]))[0]
    assert made.foreign(np.array([[1.9, 1.9, 1.9]]))[0]
    assert not made.foreign(np.array([[1.9, -1, -1]]))[0]


def test_ranks_are_shares_of_the_test_images():
    made = kept()
    np.testing.assert_allclose(made.ranks(np.array([[0.0, -9, 9]]))[0, :3], [0.5, 0, 1], atol=0.03)
    assert made.ranks(np.array([[9.0, 9, 9]]))[0, 3] == 1


def test_the_mean_rank_is_the_area_under_the_roc_curve():
    made, strange = kept(), RANDOM.normal(0.5, 1, size=(300, 3))
    known = np.random.default_rng(1).normal(size=(4500, 3))[500:]
    scores = made.altogether(np.concatenate([known, strange]))
    expected = roc_auc_score(np.repeat([0, 1], [4000, 300]), scores)
    assert separation(made.ranks(strange)[:, -1]) == pytest.approx(expected, abs=0.01)


def test_what_is_kept_is_what_was_known(tmp_path: Any):
    made, path = kept(), tmp_path / "strangeness.npz"
    path.write_bytes(made.content())
    again = Strangeness.load(path)
    values = RANDOM.normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.altogether(values), made.altogether(values))
    np.testing.assert_array_equal(again.ranks(values), made.ranks(values))
    assert (again.names, again.facts, again.threshold) == (made.names, made.facts, made.threshold)
    assert again.false_alarms == made.false_alarms
    path.write_bytes(made.content()[:500])
    with pytest.raises(StrangenessError, match=r"strangeness\.npz is missing or damaged; compute it again\."):
        Strangeness.load(path)


# Of runs -------------------------------------------------------------------------------------------------------------


def test_the_task_learns_from_training_and_sets_the_alarm_on_validation_images(tiny: Tiny, trained_run: Run) -> None:
    folder, task = job.strangeness_task(trained_run, "best", tiny.info)
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        events = list(job.execute_task(folder, tiny.cache))
    assert events[-1].outcome == "finished", events[-1]
    found = Strangeness.load(folder.path / "strangeness.npz")
    opened = open_cached(tiny.info.id, tiny.cache)
    from cifar_core.subsets import training_indices

    trained, held_out = training_indices(trained_run.config, opened)
    network = load_network(trained_run.checkpoints()["best"])
    np.testing.assert_allclose(
        found.validation, found.measure(network, opened.train.images[held_out]), rtol=1e-3, atol=1e-3
    )
    looked = look(network, as_jpeg(opened.test.images), tuple(found.layers))
    of_test = found.measure(network, opened.test.images)
    np.testing.assert_allclose(of_test[:, 0], energy(looked.logits), rtol=1e-4)
    np.testing.assert_allclose(of_test[:, 1], distances(found.prototypes, looked.features), atol=1e-4)
    for column, (name, layer) in enumerate(found.layers.items(), 2):
        np.testing.assert_allclose(of_test[:, column], layer.distances(looked.layers[name]), rtol=1e-3)
    assert found.false_alarms == found.foreign(of_test).mean()
    assert found.ranks(of_test).min() == 0
    assert found.ranks(of_test).max() == 1
    assert found.facts["training_images"] == len(trained)
    assert found.facts["run"] == trained_run.id


def test_the_reference_calls_pages_foreign_and_few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """From what is in the box alone, for kinds that had no say in what is measured."""
    run = Run(ROOT / "cifar_core" / "reference")
    monkeypatch.setattr(runs, "REFERENCE", run.path)
    assert run.start is not None
    ((checkpoint, weights),) = run.checkpoints().items()
    path = job.strangeness_folder(run, checkpoint, run.start.data_fingerprint).path / "strangeness.npz"
    assert path.stat().st_size <= 200_000
    found = Strangeness.load(path)
    assert found.false_alarms <= FALSE_ALARMS
    network = load_network(weights)
    for name, least in (("newspaper", 0.9), ("handwriting", 0.8), ("sheet music", 0.9)):
        assert found.foreign(found.measure(network, drawn(name, UNSEEN[name], 20))).mean() >= least, name
