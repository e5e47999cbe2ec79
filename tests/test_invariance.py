"""Flips and shifts of images, and what is made of what was said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.evaluation import EvaluationError
from cifar_core.invariance import PIXELS, VIEWS, Views, view
from cifar_core.networks import load_network
from cifar_core.runs import Run, write_whole
from tests.conftest import Tiny


def test_a_view_moves_what_is_on_an_image_and_mirrors_at_the_edge() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
    assert (view(images, "as it is") == images).all()
    assert (view(images, "flipped") == images[..., ::-1]).all()
    assert (view(images, "down")[:, :, PIXELS:] == images[:, :, :-PIXELS]).all()
    assert (view(images, "up")[:, :, :-PIXELS] == images[:, :, PIXELS:]).all()
    assert (view(images, "right")[..., PIXELS:] == images[..., :-PIXELS]).all()
    assert (view(images, "left")[..., :-PIXELS] == images[..., PIXELS:]).all()
    assert (view(images, "down")[:, :, 0] == images[:, :, PIXELS]).all(), "the edge itself is not repeated"


def test_a_mean_is_of_probabilities() -> None:
    logits = np.full((len(VIEWS), 2, 2), 0, np.float16)
    logits[0, 0] = 0, -0.1  # Right, but hardly so.
    logits[1, 0] = -5, 0
    logits[0, 1], logits[1, 1] = (-0.1, 0), (0, -5)
    views = Views(np.zeros(2, np.int64), logits, ("a", "b"), {})
    assert views.each()[:2].tolist() == [[True, False], [False, True]]
    assert views.correct("as it is").tolist() == [True, False]
    assert views.correct("as it is", "flipped").tolist() == [False, True]


def test_a_checkpoint_looks_at_every_view_of_the_test_images_once(tiny: Tiny, trained_run: Run) -> None:
    folder, task = job.views_task(trained_run, "best", tiny.info)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        done = list(job.execute_task(folder, tiny.cache))
    assert done[-1].kind == "end"
    assert done[-1].outcome == "finished", done[-1].message  # type: ignore[attr-defined]
    views = Views.load(folder.path / "views.npz")
    test = open_cached(tiny.info.id, tiny.cache).test
    assert (views.labels == test.labels).all()
    network = load_network(trained_run.checkpoints()["best"])
    for place, name in enumerate(VIEWS):
        expected = network.probabilities(view(np.asarray(test.images), name)).numpy().argmax(axis=1)
        assert (views.logits[place].argmax(axis=1) == expected).all()
    assert (views.facts["run"], views.facts["checkpoint"]) == (trained_run.id, "best")
    assert job.views_task(trained_run, "best", tiny.info)[0].path == folder.path, "it is found again"


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "views.npz").write_bytes(b"no")
    with pytest.raises(EvaluationError, match=r"views\.npz is damaged \(.*\)\. Look at the images again\.$"):
        Views.load(tmp_path / "views.npz")
