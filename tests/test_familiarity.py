"""Which images a network knows are near, and which of them shaped an answer: against closed forms and autograd."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifar_core import job
from cifar_core.familiarity import FamiliarityError, Known, pulled_most
from cifar_core.networks import load_network
from cifar_core.runs import Run
from tests.conftest import Tiny

RANDOM = np.random.default_rng(0)


def known(images: int = 40, classes: int = 4, width: int = 6) -> Known:
    random = np.random.default_rng(1)
    logits = random.normal(size=(images, classes))
    return Known(
        features=random.normal(size=(images, width)).astype(np.float16),
        probabilities=(np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32),
        labels=random.integers(0, classes, images),
        indices=np.arange(images) * 2,
        biased=True,
        facts={"run": "one"},
    )


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


def test_what_is_kept_is_what_was_known(tmp_path):
    table = known()
    (tmp_path / "known.npz").write_bytes(table.content())
    again = Known.load(tmp_path / "known.npz")
    np.testing.assert_array_equal(again.features, table.features)
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
    trained, _ = training_indices(trained_run.config, opened)
    np.testing.assert_array_equal(table.indices, trained)
    np.testing.assert_array_equal(table.labels, np.asarray(opened.train.labels)[trained])
    network = load_network(Path(trained_run.checkpoints()["best"]))
    features = torch.cat(list(network.embeddings(opened.train.images[trained])))
    np.testing.assert_allclose(table.features, features.numpy(), rtol=1e-2, atol=1e-3)
    expected = network.probabilities(opened.train.images[trained]).numpy()
    np.testing.assert_allclose(table.probabilities, expected, atol=1e-5)
    assert table.facts["training_images"] == len(trained)
    assert table.facts["run"] == trained_run.id
