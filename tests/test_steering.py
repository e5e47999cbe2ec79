"""Changing a run while it trains, repeating it with its changes, training on, and forking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_core import job
from cifar_core.compute import choose
from cifar_core.datasets import open_dataset
from cifar_core.events import End, Epoch, Event, Progress, Refused
from cifar_core.networks import load_tensors
from cifar_core.runs import Run, RunError, create_run, kept_epochs, repeat_run
from cifar_core.subsets import training_indices
from tests.conftest import Tiny, tiny_config, work


def steered(run: Run, cache: Path, changes: dict[int, dict[str, Any]]) -> Iterator[Event]:
    """Work on the run in this process and ask for changes at its n-th events."""
    with run.held():
        for count, event in enumerate(job.execute(run, cache)):
            if count in changes:
                run.request("change", changes[count])
            yield event


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life after every step, so that a test can do something between any two."""
    from cifar_core import training

    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)


def weights(run: Run, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    tensors, _ = load_tensors(run.checkpoints()[checkpoint])
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


CHANGES = {8: {"learning_rate": 0.0005, "dropout": 0.3}, 14: {"flip": 0.0, "weight_decay": 0.01}}


@pytest.fixture
def changed_run(tiny: Tiny, runs_root: Path, often: None) -> Run:
    """Two epochs of eleven steps, changed by hand in the first and in its validation."""
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    for _ in steered(run, tiny.cache, CHANGES):
        pass
    return run


def test_a_change_is_in_force_from_the_next_step_and_said(changed_run: Run) -> None:
    first, second = changed_run.changes
    assert first.values == {"learning_rate": 0.0005, "dropout": 0.3}
    assert first.before == {"learning_rate": 0.003, "dropout": 0.0}
    assert second.values == {"flip": 0.0, "weight_decay": 0.01}
    rates = {e.step: e.learning_rate for e in changed_run.events() if isinstance(e, Progress) and e.phase == "training"}
    assert all(rate == 0.003 for step, rate in rates.items() if step <= first.step)
    assert all(rate == 0.0005 for step, rate in rates.items() if step > first.step)
    asked_after = [event.step for event in changed_run.events() if isinstance(event, Progress)][8 - 3]
    assert first.step <= asked_after + 2
    settings = changed_run.settings
    assert (settings.learning_rate, settings.dropout, settings.flip, settings.weight_decay) == (0.0005, 0.3, 0.0, 0.01)
    assert changed_run.config.learning_rate == 0.003, "what was asked for at first stays as it was"


def test_a_fork_of_an_earlier_checkpoint_begins_with_the_settings_of_that_time(
    tiny: Tiny, runs_root: Path, often: None
) -> None:
    run = create_run(tiny_config(tiny, epochs=2, keep_every=1), runs_root)
    for _ in steered(run, tiny.cache, {8: CHANGES[8], 20: CHANGES[14]}):
        pass
    first, second = run.changes
    assert first.step < 11 < second.step
    early = run.settings_of("epoch-1")
    assert (early.dropout, early.learning_rate, early.flip) == (0.3, 0.0005, 0.5)
    assert run.settings_of("last") == run.settings
    child = create_run(early.changed({"epochs": 3}), runs_root, parent=run, checkpoint="epoch-1")
    assert child.settings_inherited == early
    run.delete()
    assert child.settings_inherited == early


def test_a_change_alters_the_weights(changed_run: Run, make_run: Callable[..., Run]) -> None:
    assert not same(weights(changed_run), weights(make_run(epochs=2)))


def test_a_run_with_its_changes_is_repeated_bit_for_bit(tiny: Tiny, changed_run: Run) -> None:
    again = work(repeat_run(changed_run, changed_run.path.parent), tiny.cache)
    assert same(weights(again), weights(changed_run))
    assert [(c.step, c.values) for c in again.changes] == [(c.step, c.values) for c in changed_run.changes]
    assert [e.validation_loss for e in again.epochs] == [e.validation_loss for e in changed_run.epochs]


@pytest.mark.parametrize("at", [10, 13, 17, 24])
def test_a_run_that_is_interrupted_after_a_change_ends_as_if_it_had_not_been(
    tiny: Tiny, runs_root: Path, changed_run: Run, at: int
) -> None:
    cut = create_run(changed_run.config, runs_root)
    for count, _ in enumerate(steered(cut, tiny.cache, CHANGES)):
        if count == at:
            break
    work(cut, tiny.cache)
    assert cut.state == "finished"
    if at > max(CHANGES) + 2:
        assert same(weights(cut), weights(changed_run))
        assert [(c.step, c.values) for c in cut.changes] == [(c.step, c.values) for c in changed_run.changes]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"model": "resnet9"}, "model cannot be changed while a run trains"),
        ({"learning_rate": -1.0}, "learning_rate must be at least"),
        ({"lerning_rate": 0.1}, "did you mean 'learning_rate'?"),
        ({"epochs": 1}, "epochs must be at least 2"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_a_sentence_and_the_training_goes_on(
    tiny: Tiny, runs_root: Path, often: None, values: dict[str, Any], why: str
) -> None:
    run = create_run(tiny_config(tiny, epochs=3), runs_root)
    for _ in steered(run, tiny.cache, {20: values}):
        pass
    (refused,) = [event for event in run.events() if isinstance(event, Refused)]
    assert why in refused.message
    assert run.state == "finished"
    assert not run.changes
    assert len(run.epochs) == 3


def test_what_is_asked_in_two_parts_is_asked_together(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny), runs_root)
    run.request("change", {"dropout": 0.2})
    run.request("change", {"flip": 0.1})
    assert run.taken("change") == {"dropout": 0.2, "flip": 0.1}
    assert run.taken("change") is None


def test_one_more_epoch_can_be_asked_for_while_it_trains(tiny: Tiny, runs_root: Path, often: None) -> None:
    run = create_run(tiny_config(tiny, epochs=1), runs_root)
    for _ in steered(run, tiny.cache, {6: {"epochs": 2}}):
        pass
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    assert run.last_end == End(
        time=run.last_end.time, outcome="finished", message=run.last_end.message, epoch=2, step=22
    )


def test_a_finished_run_trains_on(tiny: Tiny, trained_run: Run) -> None:
    before = [epoch.validation_loss for epoch in trained_run.epochs]
    trained_run.request("change", {"epochs": 3})
    work(trained_run, tiny.cache)
    assert trained_run.state == "finished"
    assert [epoch.validation_loss for epoch in trained_run.epochs][:2] == before
    assert len(trained_run.epochs) == 3


def test_a_longer_run_equals_one_that_was_that_long_from_the_start(
    tiny: Tiny, trained_run: Run, make_run: Callable[..., Run]
) -> None:
    trained_run.request("change", {"epochs": 3})
    work(trained_run, tiny.cache)
    # With a constant learning rate the length changes nothing else.
    assert same(weights(trained_run), weights(make_run(epochs=3)))


def test_saving_now_keeps_the_weights_of_this_moment_for_good(tiny: Tiny, runs_root: Path, often: None) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    asked = 0
    for event in steered(run, tiny.cache, {}):
        if isinstance(event, Progress) and event.step in (5, 14) and event.phase == "training":
            run.request("save")
            asked = event.step
        elif asked:
            _, metadata = load_tensors(run.checkpoints()["last"])
            assert metadata["step"] == asked
            assert metadata["epoch"] == asked / 11
            asked = 0
    assert list(run.checkpoints()) == ["best", "last", "step-14", "step-5"]
    assert [load_tensors(path)[1]["step"] for path in run.checkpoints().values()][1:] == [22, 14, 5]
    assert not same(weights(run, "step-5"), weights(run, "step-14"))


def test_a_fork_of_weights_that_were_kept_goes_on_from_them(tiny: Tiny, runs_root: Path, often: None) -> None:
    whole = work(create_run(tiny_config(tiny, epochs=4, keep_every=1), runs_root), tiny.cache)
    assert list(whole.checkpoints()) == ["best", "last", "epoch-4", "epoch-3", "epoch-2", "epoch-1"]
    fork = create_run(tiny_config(tiny, epochs=4), runs_root, parent=whole, checkpoint="epoch-2")
    assert same(weights(fork), weights(whole, "epoch-2"))
    work(fork, tiny.cache)
    assert same(weights(fork), weights(whole)), "with the settings of its parent it does what that did"
    assert [epoch.epoch for epoch in fork.epochs] == [3, 4]
    grandchild = create_run(tiny_config(tiny, epochs=5), runs_root, parent=fork, checkpoint="last")
    work(grandchild, tiny.cache)
    assert [epoch.epoch for epoch in grandchild.epochs] == [5]
    with pytest.raises(RunError, match=r"epochs must be above the 4 that the parent's weights have seen, but is 4\."):
        create_run(tiny_config(tiny, epochs=4), runs_root, parent=fork, checkpoint="last")
    whole.checkpoints()["epoch-1"].write_bytes(b"")
    with pytest.raises(RunError, match=r"epoch-1 checkpoint of run \S+, which is damaged or"):
        create_run(tiny_config(tiny, epochs=4), runs_root, parent=whole, checkpoint="epoch-1")


def test_the_weights_that_stay_of_a_long_run_are_few_and_evenly_spread() -> None:
    assert list(kept_epochs(0, 50)) == []
    assert list(kept_epochs(3, 2)) == []
    assert list(kept_epochs(3, 11)) == [3, 6, 9]
    for every in (1, 2, 7):
        before: set[int] = set()
        for done in range(1, 500):
            staying = set(kept_epochs(every, done))
            assert len(staying) <= 30
            assert staying <= before | {done}, "nothing is asked for that is gone already"
            before = staying
    assert list(kept_epochs(1, 499)) == list(range(32, 499, 32))


def test_a_long_run_lets_go_of_weights_kept_too_densely(
    tiny: Tiny, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_core.runs.KEPT_EPOCHS", 10)
    run = make_run(epochs=12, keep_every=1, train_images=20)
    assert list(run.checkpoints())[2:] == ["epoch-12", "epoch-10", "epoch-8", "epoch-6", "epoch-4", "epoch-2"]


def test_a_fork_begins_with_its_parents_weights_and_its_curve_on_its_parents(tiny: Tiny, trained_run: Run) -> None:
    before = weights(trained_run)
    child = create_run(
        tiny_config(tiny, epochs=4, learning_rate=1e-6), trained_run.path.parent, parent=trained_run, checkpoint="last"
    )
    assert same(weights(child), before)
    work(child, tiny.cache)
    assert child.state == "finished"
    assert child.parent == (trained_run.id, "last")
    assert [epoch.epoch for epoch in child.epochs] == [3, 4]
    assert child.epochs[0].best, "a fork has a best epoch of its own, even where it is no better than its parent's"
    rows = [row for row in child.history() if row["whole_epoch"]]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["validation_loss"] for row in rows[:2]] == [e.validation_loss for e in trained_run.epochs]
    moved = max(float((weights(child)[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 1e-3, "with so small a learning rate the weights stay near the parent's"
    assert same(weights(trained_run), before)
    assert len(trained_run.epochs) == 2


@pytest.mark.parametrize(
    ("settings", "steps"), [({"imbalance": "step", "imbalance_ratio": 10.0}, None), ({"train_images": 30}, 2)]
)
def test_a_fork_on_other_images_begins_with_a_whole_epoch(
    tiny: Tiny, trained_run: Run, settings: dict[str, Any], steps: int | None
) -> None:
    """However many steps an epoch of these has."""
    child = create_run(tiny_config(tiny, epochs=4, **settings), trained_run.path.parent, parent=trained_run)
    work(child, tiny.cache)
    assert child.state == "finished", child.last_end
    assert child.start is not None
    assert child.start.steps_per_epoch < 11
    assert steps in (None, child.start.steps_per_epoch)
    assert child.start.step == 2 * child.start.steps_per_epoch
    assert [epoch.epoch for epoch in child.epochs] == [3, 4]
    assert child.epochs[-1].step == 4 * child.start.steps_per_epoch


def test_the_time_left_of_a_fork_is_by_its_own_pace(tiny: Tiny, trained_run: Run) -> None:
    from cifar_core.models import create
    from cifar_core.networks import load_tensors
    from cifar_core.training import Training, material

    tensors, metadata = load_tensors(trained_run.checkpoints()["last"])
    config = tiny_config(tiny, epochs=4, train_images=30)
    compute = choose("cpu", "float32")
    data = open_dataset(tiny.source, tiny.cache)
    training = Training(config, create("single_conv", 3), material(config, data, compute.device), compute)
    training.fork(tensors, {**metadata["training"], "seconds": 1000.0, "validation_seconds": 500.0})
    resumed = Training(config, create("single_conv", 3), material(config, data, compute.device), compute)
    for goes_on in (training, resumed):
        left = []
        for event in goes_on.events():
            if isinstance(event, Epoch | Progress):
                left.append(event.seconds_left or 0.0)
            if isinstance(event, Epoch) and goes_on is training:
                resumed.restore(*training.state())
                break
        assert left
        assert max(left) < 10, "its parent was on a slower machine"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"validation_fraction": 0.4}, "validation_fraction of a fork must be at most that of its parent .0.1."),
        ({"folds": 5, "fold": 1}, "A fork holds out the images that its parent did"),
    ],
)
def test_a_fork_holds_nothing_out_that_its_parent_was_trained_on(
    tiny: Tiny, trained_run: Run, settings: dict[str, Any], why: str
) -> None:
    config = tiny_config(tiny, epochs=3, **settings)
    with pytest.raises(RunError, match=why):
        job.new_run(config, trained_run.path.parent, tiny.cache, parent=trained_run)
    with pytest.raises(RunError, match="A fork holds out the images that its parent did"):
        job.new_series(tiny_config(tiny, epochs=3), "folds", 3, trained_run.path.parent, tiny.cache, trained_run)
    smaller = tiny_config(tiny, epochs=3, validation_fraction=0.05)
    fork = work(job.new_run(smaller, trained_run.path.parent, tiny.cache, parent=trained_run), tiny.cache)
    data = open_dataset(tiny.source, tiny.cache)
    ours, theirs = (set(training_indices(run.config, data)[1].tolist()) for run in (fork, trained_run))
    assert ours < theirs, "a smaller share is a part of a larger one"


def test_what_is_asked_for_and_in_force_already_is_answered(tiny: Tiny, runs_root: Path, often: None) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    for _ in steered(run, tiny.cache, {8: {"epochs": 2}}):
        pass
    (refused,) = [event for event in run.events() if isinstance(event, Refused)]
    assert refused.message == "What was asked for is in force already."
    assert run.state == "finished"
    assert not run.changes
    assert not list((run.path / "control").glob(".*.begun")), "nothing is left to be asked of the next worker"


def test_a_fork_of_the_best_epoch_with_another_optimiser_and_batch_size(tiny: Tiny, trained_run: Run) -> None:
    best = trained_run.best
    assert best
    config = tiny_config(tiny, epochs=best.epoch + 1, optimizer="sgd", batch_size=54, learning_rate=0.01)
    child = work(create_run(config, trained_run.path.parent, parent=trained_run, checkpoint="best"), tiny.cache)
    assert child.state == "finished", child.last_end
    assert [epoch.epoch for epoch in child.epochs] == [best.epoch + 1]
    assert child.epochs[-1].best, "a fork has a best epoch of its own"
    assert set(child.checkpoints()) == {"best", "last"}


def test_a_fork_that_is_interrupted_goes_on(tiny: Tiny, trained_run: Run, often: None) -> None:
    def fork() -> Run:
        config = tiny_config(tiny, epochs=4, optimizer="sgd", batch_size=54, learning_rate=0.01)
        return create_run(config, trained_run.path.parent, parent=trained_run)

    whole, cut = work(fork(), tiny.cache), fork()
    for event in steered(cut, tiny.cache, {}):
        if isinstance(event, Epoch) or (isinstance(event, Progress) and event.step > 7):
            break
    work(cut, tiny.cache)
    assert same(weights(cut), weights(whole))


def test_a_fork_of_a_fork_counts_the_epochs_of_all_its_ancestors(tiny: Tiny, trained_run: Run) -> None:
    root = trained_run.path.parent
    child = work(create_run(tiny_config(tiny, epochs=3), root, parent=trained_run), tiny.cache)
    with pytest.raises(RunError, match="epochs must be above the 3"):
        create_run(tiny_config(tiny, epochs=3), root, parent=child)
    grandchild = work(create_run(tiny_config(tiny, epochs=4), root, parent=child, checkpoint="best"), tiny.cache)
    rows = [row for row in grandchild.history() if row["whole_epoch"]]
    assert [(row["epoch"], row["inherited"]) for row in rows] == [(1, True), (2, True), (3, True), (4, False)]


def test_a_fork_keeps_its_curve_when_its_parent_is_deleted_or_goes_on(tiny: Tiny, trained_run: Run) -> None:
    child = work(create_run(tiny_config(tiny, epochs=3), trained_run.path.parent, parent=trained_run), tiny.cache)
    before = child.history()
    assert [row["inherited"] for row in before if row["whole_epoch"]] == [True, True, False]
    trained_run.request("change", {"epochs": 4})
    work(trained_run, tiny.cache)
    assert child.history() == before
    trained_run.delete()
    assert child.history() == before
    assert child.state == "finished"
    assert child.parent == (trained_run.id, "last")


def test_a_fork_is_repeated_exactly_even_without_its_parent(tiny: Tiny, trained_run: Run, often: None) -> None:
    root = trained_run.path.parent
    child = create_run(tiny_config(tiny, epochs=4), root, parent=trained_run)
    for _ in steered(child, tiny.cache, {10: {"dropout": 0.2}}):
        pass
    assert child.changes
    trained_run.delete()
    again = work(repeat_run(child, root), tiny.cache)
    assert same(weights(again), weights(child))
    assert again.parent == child.parent
    assert [row["validation_loss"] for row in again.history() if row["whole_epoch"]] == [
        row["validation_loss"] for row in child.history() if row["whole_epoch"]
    ]


def test_a_change_in_the_last_validation_still_counts(tiny: Tiny, runs_root: Path, often: None) -> None:
    """An epoch more, asked for when the last training step is done already."""
    run = create_run(tiny_config(tiny, epochs=1), runs_root)
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Epoch) and event.epoch == 1:
                run.request("change", {"epochs": 2})
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    again = work(repeat_run(run, runs_root), tiny.cache)
    assert same(weights(again), weights(run))


def test_a_change_asked_for_in_a_validation_does_not_wait_for_its_end(tiny: Tiny, runs_root: Path, often: None) -> None:
    run = create_run(tiny_config(tiny, epochs=2, images_at_once=4), runs_root)
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Progress) and event.phase == "validation" and not run.epochs and not run.changes:
                run.request("change", {"learning_rate": 0.01})
    kinds = [event.kind if not isinstance(event, Progress) else event.phase for event in run.events()]
    said = kinds.index("changed")
    assert kinds[said - 1] == kinds[said + 1] == "validation"
    again = work(repeat_run(run, runs_root), tiny.cache)
    assert same(weights(again), weights(run))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"model": "guide_cnn", "epochs": 5}, "A fork keeps the model of its parent, which is single_conv"),
        ({"width": 2.0, "epochs": 5}, "A fork keeps the width"),
        ({"epochs": 2}, "epochs must be above the 2"),
    ],
)
def test_a_fork_that_cannot_be_is_refused_and_leaves_nothing(
    tiny: Tiny, trained_run: Run, settings: dict[str, Any], why: str
) -> None:
    there = sorted(trained_run.path.parent.iterdir())
    with pytest.raises(RunError, match=why):
        create_run(tiny_config(tiny, **settings), trained_run.path.parent, parent=trained_run)
    assert sorted(trained_run.path.parent.iterdir()) == there


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_the_strength_of_augmentation_scales_what_is_done_and_is_repeated(
    tiny: Tiny, runs_root: Path, often: None, strength: float
) -> None:
    """A run at some strength is, bit for bit, one with the scaled amounts at strength 1."""
    amounts = {"flip": 0.2, "crop_padding": 3, "rotation": 10.0, "cutout": 5, "mixup": 0.4}
    scaled = {name: value * strength for name, value in amounts.items()}
    scaled |= {"crop_padding": int(3 * strength + 0.5), "cutout": int(5 * strength + 0.5)}
    by_strength = work(create_run(tiny_config(tiny, **amounts, augmentation_strength=strength), runs_root), tiny.cache)
    by_amounts = work(create_run(tiny_config(tiny, **scaled), runs_root), tiny.cache)
    assert same(weights(by_strength), weights(by_amounts))


def test_the_strength_can_be_changed_while_it_trains(tiny: Tiny, runs_root: Path, often: None) -> None:
    run = create_run(tiny_config(tiny, epochs=2, crop_padding=4), runs_root)
    for _ in steered(run, tiny.cache, {8: {"augmentation_strength": 0.0}}):
        pass
    assert [change.values for change in run.changes] == [{"augmentation_strength": 0.0}]
    again = work(repeat_run(run, runs_root), tiny.cache)
    assert same(weights(again), weights(run))


def row(epoch: float, whole: bool = True, inherited: bool = False) -> dict[str, Any]:
    values = {"train_loss": 1.0, "validation_loss": 2.0 if whole else None}
    return {"epoch": epoch, **values, "whole_epoch": whole, "inherited": inherited}


def test_changes_are_numbered_marks_on_the_curve_even_at_one_moment() -> None:
    from pages.ui import charts

    frame = charts.learning_curves(
        [row(1.0)], "loss", [(0.5, "dropout 0 → 0.3", "dropout"), (0.5, "flip 0 → 1", "flip")]
    )
    marks = frame[frame["series"] == charts.MARK]
    assert marks[["epoch", "note", "label", "short"]].to_numpy().tolist() == [
        [0.5, "dropout 0 → 0.3", "1: dropout 0 → 0.3", "1: dropout"],
        [0.5, "flip 0 → 1", "2: flip 0 → 1", "2: flip"],
    ]
    assert len(set(marks["lane"])) == 2


@pytest.mark.parametrize("count", [1, 3, 12, 60])
@pytest.mark.parametrize("last", [1.0, 30.0])
def test_texts_of_marks_never_lie_on_each_other(count: int, last: float) -> None:
    """On a chart of 300 pixels and on wider ones; where there is no room, a number or nothing."""
    from pages.ui import charts

    # The second is too long for half of a narrow chart, the third for half of a wide one, and even its short text.
    longer = {1: ("learning rate 0.001234 → 0.0005", "learning rate"), 2: ("settings " * 12, "settings " * 4)}
    marks = [
        (last * (0.1 + 0.8 * k / count), *longer.get(k, (f"learning rate {k} → {k + 1}", "learning rate")))
        for k in range(count)
    ]
    frame = charts.learning_curves([row(last)], "loss", marks)
    told = frame[frame["series"] == charts.MARK]
    assert all(
        label in (f"{k}: {note}", str(k), "")
        for k, (label, (_, note, _)) in enumerate(zip(told["label"], marks, strict=True), 1)
    )
    assert count > 3 or all(told["label"])
    for width in (300, 500, 900):
        boxes = []
        for epoch, label, short, lane in told[["epoch", "label", "short", "lane"]].itertuples(index=False):
            shown = label if 6 * len(label) <= width / 2 else short
            place, long = width * epoch / last, 6 * len(shown)
            assert long <= width / 2, "it would be cut"
            left = place - long if place > charts.SWITCH * width else place
            boxes.append((lane, left, left + long))
        boxes = [box for box in boxes if box[1] < box[2]]
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a[0] == b[0]]
        assert not [1 for a, b in pairs if a[1] < b[2] and b[1] < a[2]]


def test_a_forks_curve_begins_on_its_parents_and_tells_them_apart() -> None:
    from pages.ui import charts

    history = [row(0.5, False, True), row(1.0, True, True), row(1.5, False), row(2.0)]
    frame = charts.learning_curves(history, "loss")
    validation = frame[frame["series"] == charts.SERIES["validation"]]
    assert validation[["epoch", "part"]].to_numpy().tolist() == [[1.0, "parent"], [1.0, "own"], [2.0, "own"]]
    assert frame[frame["series"] == charts.PARENT]["label"].tolist() == ["parent"]
