"""What a network says of every image after each epoch: kept, thinned, read, and the same after a resume."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cifar_core import job, logits
from cifar_core.datasets import open_cached
from cifar_core.evaluation import Evaluation
from cifar_core.events import Epoch
from cifar_core.logits import Images, LogitsError
from cifar_core.runs import Run, create_run
from cifar_core.subsets import training_indices
from tests.conftest import Tiny, tiny_config, work

CLASSES = ("cat", "dog", "frog")


def some_images(count: int = 40, **facts: str) -> Images:
    random = np.random.default_rng(1)
    return Images(random.integers(0, 3, count), np.arange(count) + 7, CLASSES, {"split": "test", **facts})


def test_what_is_read_is_what_was_kept_but_for_rounding(tmp_path: Path) -> None:
    images, random = some_images(), np.random.default_rng(0)
    said = {epoch: random.normal(0, 4, (40, 3)).astype(np.float32) for epoch in (3, 1, 12)}
    logits.begin(tmp_path / "test", images)
    for epoch, values in said.items():
        logits.keep(tmp_path / "test", epoch, values)
    read = logits.read(tmp_path / "test")
    assert read.epochs.tolist() == [1, 3, 12]
    assert (read.values.shape, read.values.dtype) == ((3, 40, 3), np.float16)
    assert read.images.classes == CLASSES
    assert read.images.facts == {"split": "test"}
    assert read.images.indices.tolist() == list(range(7, 47))
    exact = np.exp(said[3]) / np.exp(said[3]).sum(axis=1, keepdims=True)
    evaluation = read.at(3)
    assert evaluation.probabilities == pytest.approx(exact, abs=2e-3)
    assert evaluation.facts == {"split": "test", "epoch": 3}
    assert (evaluation.labels == images.labels).all()
    own = exact[np.arange(40), images.labels]
    assert read.true_probabilities[1] == pytest.approx(own, abs=2e-3)
    assert (read.correct[1] == evaluation.correct).all()
    assert (read.nearest(2), read.nearest(8), read.nearest(99)) == (1, 12, 12)
    with pytest.raises(LogitsError, match=r"^Nothing is kept of epoch 2, but of 1, 3, 12\.$"):
        read.at(2)


def test_no_rounding_makes_two_classes_equal(tmp_path: Path) -> None:
    """Near ten, float32 tells apart what float16 does not; near zero it is the other way round."""
    close = np.full((1000, 3), -5, np.float32)
    close[:, 0] = np.random.default_rng(0).uniform(5, 12, 1000)
    close[:, 2] = np.nextafter(close[:, 0], np.float32(20))
    assert (close.astype(np.float16).argmax(1) == 0).any()
    logits.begin(tmp_path, some_images(1000))
    logits.keep(tmp_path, 1, close)
    assert (logits.read(tmp_path).predictions == 2).all()


def test_logits_beyond_float16_stay_finite(tmp_path: Path) -> None:
    logits.begin(tmp_path, some_images(2))
    logits.keep(tmp_path, 1, np.array([[0, 1e9, -1e9], [5, -np.inf, 4]], np.float32))
    evaluation = logits.read(tmp_path).at(1)
    assert evaluation.predictions.tolist() == [1, 0]
    assert evaluation.probabilities[0].tolist() == [0, 1, 0]


def test_logits_are_read_as_they_were_kept_before_and_now(tmp_path: Path) -> None:
    """Every float16 that a logit can be comes back as the same bits, and takes less room than it did."""
    lowered = np.sort(-np.random.default_rng(0).gamma(2, 3, (2000, 3)).astype(np.float16))
    lowered[:, 2] = 0
    logits.begin(tmp_path, some_images(2000))
    logits.keep(tmp_path, 1, lowered)
    np.savez_compressed(tmp_path / "epoch-2.npz", logits=lowered)
    read = logits.read(tmp_path)
    assert not read.damaged
    for values in read.values:
        assert (values.dtype, values.tobytes()) == (np.dtype(np.float16), lowered.tobytes())
    now, before = (path.stat().st_size for path in logits.files(tmp_path).values())
    assert now < 0.97 * before


@pytest.mark.parametrize("room", [2, 5, 9, 30])
def test_where_room_is_short_epochs_are_let_go_of_evenly(room: int) -> None:
    there: set[int] = set()
    for last in range(1, 101):
        there = logits.staying(there | {last}, room, always={64})
        assert last in there
        assert len(there) <= room
        if room >= 5:
            assert {1} | ({64} if last >= 64 else set()) <= there
            gaps = np.diff(sorted(there - {1, last}))
            assert len(set(gaps.tolist())) <= 1, "equally far apart"
    assert len(there) >= room / 3


def test_epochs_are_thinned_by_the_bytes_they_take(tmp_path: Path) -> None:
    logits.begin(tmp_path, some_images())
    for epoch in range(1, 41):
        logits.keep(tmp_path, epoch, np.random.default_rng(epoch).normal(0, 1, (40, 3)))
        logits.thin(tmp_path, 4000)
        assert sum(path.stat().st_size for path in logits.files(tmp_path).values()) <= 4000
    assert {1, 40} < set(logits.files(tmp_path))


def test_a_training_that_goes_on_lets_go_of_what_it_trains_again(tmp_path: Path) -> None:
    images = some_images()
    logits.begin(tmp_path, images)
    for epoch in (1, 2, 3):
        logits.keep(tmp_path, epoch, np.zeros((40, 3)))
    logits.begin(tmp_path, images, after=2)
    assert list(logits.files(tmp_path)) == [1, 2]
    logits.begin(tmp_path, some_images(39), after=2)
    assert list(logits.files(tmp_path)) == [], "those of other images are of no use"


def test_a_damaged_epoch_is_left_out_and_named(tmp_path: Path) -> None:
    with pytest.raises(LogitsError, match=r"^Nothing is kept in "):
        logits.read(tmp_path)
    logits.begin(tmp_path, some_images())
    with pytest.raises(LogitsError, match=r"^Nothing is kept in .* yet\.$"):
        logits.read(tmp_path)
    for epoch in (1, 2, 3, 4):
        logits.keep(tmp_path, epoch, np.zeros((40, 3)))
    whole = (tmp_path / "epoch-2.npz").read_bytes()
    (tmp_path / "epoch-2.npz").write_bytes(whole[:100])
    (tmp_path / "epoch-3.npz").write_bytes(whole[:60] + b"?" * 20 + whole[80:])
    np.savez(tmp_path / "epoch-4.npz", logits=np.zeros((5, 3), np.float16))
    read = logits.read(tmp_path)
    assert read.epochs.tolist() == [1]
    assert read.damaged == ("epoch-2.npz", "epoch-3.npz", "epoch-4.npz")
    (tmp_path / "images.npz").write_bytes(b"no")
    with pytest.raises(LogitsError, match=r"images\.npz is damaged"):
        logits.read(tmp_path)


def test_every_epoch_of_a_run_says_what_its_validation_has_said(tiny: Tiny, finished_run: Run) -> None:
    read = logits.read(finished_run.logits("validation"))
    assert read.epochs.tolist() == [1, 2]
    for place, epoch in enumerate(finished_run.epochs):
        assert read.correct[place].mean() == pytest.approx(epoch.validation_accuracy, abs=1e-9)
        assert read.at(epoch.epoch).loss == pytest.approx(epoch.validation_loss, rel=1e-3)
    data = open_cached(tiny.info.id, tiny.cache)
    held_out = training_indices(finished_run.config, data)[1]
    assert (read.images.indices == held_out).all()
    assert (read.images.labels == data.train.labels[held_out]).all()
    facts = read.images.facts
    assert (facts["run"], facts["split"], facts["fingerprint"]) == (
        finished_run.id,
        "validation",
        tiny.info.fingerprint,
    )
    use = finished_run.disk_use()
    assert 0 < use.logits == sum(path.stat().st_size for path in finished_run.logits("validation").iterdir())


def contents(run: Run) -> dict[int, bytes]:
    return {epoch: path.read_bytes() for epoch, path in logits.files(run.logits("validation")).items()}


def test_a_worker_that_dies_and_is_started_again_keeps_the_same_bit_for_bit(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A word after each step, at which it can be stopped.
    monkeypatch.setattr("cifar_core.training.PROGRESS_SECONDS", 0.0)
    config = tiny_config(tiny, epochs=3)
    whole = work(create_run(config, runs_root), tiny.cache)
    run = create_run(config, runs_root)
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Epoch) and event.epoch == 2:
                break  # Its weights are not kept yet.
    assert list(contents(run)) == [1, 2], "what has been said is there"
    (run.logits("validation") / "epoch-2.npz").write_bytes(b"to be replaced")
    (run.logits("validation") / "epoch-3.npz").write_bytes(b"to be removed")
    (run.logits("validation") / f".epoch-3.npz.{1}.tmp").write_bytes(b"half a file")
    stops_after_one_step(run, tiny)
    assert list(contents(run)) == [1], "of epochs that are trained again nothing is shown"
    work(run, tiny.cache)
    assert contents(run) == contents(whole)
    assert not list(run.logits("validation").glob(".*"))


def stops_after_one_step(run: Run, tiny: Tiny) -> None:
    run.request("stop")
    with run.held():
        # It is asked before it begins, and would not begin at all.
        for event in job.execute(run, tiny.cache):
            if event.kind == "start":
                run.request("stop")
            elif event.kind == "boot":
                run.withdraw("stop")
    run.withdraw("stop")


def test_forks_and_repeats_begin_anew(tiny: Tiny, trained_run: Run) -> None:
    fork = create_run(tiny_config(tiny, epochs=3), trained_run.path.parent, parent=trained_run)
    assert not fork.logits("validation").exists()
    work(fork, tiny.cache)
    assert list(contents(fork)) == [3]


def test_nothing_is_kept_where_there_is_no_room(make_run: Callable[..., Run]) -> None:
    run = make_run(keep_logits=0)
    assert not run.logits("validation").exists()
    assert run.disk_use().logits == 0


def test_kept_weights_look_at_the_test_images_once(tiny: Tiny, make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=3, keep_every=1)
    assert sorted(job.unseen_checkpoints(run, "test")) == [1, 2, 3]
    assert job.unseen_checkpoints(run, "validation") == {}
    folder, task = job.logits_task(run, "test", tiny.info)
    done = do(folder, task, tiny)
    assert done[-1].outcome == "finished"
    progress = [event for event in done if event.kind == "task"]
    assert progress[-1].done == progress[-1].total == 3 * 60
    assert job.unseen_checkpoints(run, "test") == {}
    read = logits.read(run.logits("test"))
    assert read.epochs.tolist() == [1, 2, 3]
    assert read.values.shape == (3, 60, 3)
    for epoch in (1, 2, 3):
        made, _ = job.evaluation_task(run, f"epoch-{epoch}" if epoch < 3 else "last", tiny.info)
        if (made.path / "evaluation.npz").exists():
            stored = Evaluation.load(made.path / "evaluation.npz")
            assert read.at(epoch).probabilities == pytest.approx(stored.probabilities, abs=2e-3)
    assert not [event for event in do(folder, task, tiny) if event.kind == "task"], "nothing is left to be done"


def test_what_was_evaluated_is_not_predicted_again(
    tiny: Tiny, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(epochs=2, keep_every=1)
    for checkpoint in job.unseen_checkpoints(run, "test").values():
        do(*job.evaluation_task(run, checkpoint, tiny.info), tiny)
    before = logits.read(run.logits("test")).at(2).probabilities
    run.free(logits=True)
    assert sorted(job.unseen_checkpoints(run, "test")) == [1, 2]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("predicted again")

    monkeypatch.setattr("cifar_core.networks.Network.logits", refuse)
    do(*job.logits_task(run, "test", tiny.info), tiny)
    assert logits.read(run.logits("test")).at(2).probabilities == pytest.approx(before, abs=4e-3)


def test_an_evaluation_is_an_epoch_of_the_test_images(tiny: Tiny, trained_run: Run) -> None:
    folder, task = job.evaluation_task(trained_run, "last", tiny.info)
    do(folder, task, tiny)
    stored = Evaluation.load(folder.path / "evaluation.npz")
    read = logits.read(trained_run.logits("test"))
    assert read.epochs.tolist() == [2]
    assert read.at(2).probabilities == pytest.approx(stored.probabilities, abs=2e-3)
    assert (read.at(2).predictions == stored.predictions).all()
    assert 2 not in job.unseen_checkpoints(trained_run, "test")


def test_the_validation_images_of_an_older_run_are_looked_at_by_kept_weights(tiny: Tiny, trained_run: Run) -> None:
    trained = logits.read(trained_run.logits("validation"))
    shutil.rmtree(trained_run.path / "logits")
    do(*job.logits_task(trained_run, "validation", tiny.info), tiny)
    again = logits.read(trained_run.logits("validation"))
    assert again.images.indices.tolist() == trained.images.indices.tolist()
    assert again.images.facts == trained.images.facts
    for epoch in again.epochs:
        assert again.at(epoch).probabilities == pytest.approx(trained.at(epoch).probabilities, abs=2e-3)


def do(folder: object, task: dict[str, object], tiny: Tiny) -> list[object]:
    import json

    from cifar_core.runs import write_whole

    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        return list(job.execute_task(folder, tiny.cache))
