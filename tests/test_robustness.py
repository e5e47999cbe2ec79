"""What is kept of corrupted and attacked images: tables, errors relative to a reference, and the tasks that make it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_core import job
from cifar_core.attacks import EPSILONS, METHODS
from cifar_core.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from cifar_core.networks import load_network
from cifar_core.robustness import MISSING, Robustness, RobustnessError, corruption_errors
from cifar_core.runs import Run, WorkFolder, write_whole

CLASSES = ("cat", "dog", "ship")


def result(errors: list[list[float]], clean: float = 0.1, fingerprint: str = "f") -> Robustness:
    """Of a hundred images, with these shares of wrong answers."""
    labels = np.arange(100) % 3

    def answers(share: float) -> Any:
        wrong = np.arange(100) < round(100 * share)
        return np.where(wrong, (labels + 1) % 3, labels).astype(np.int16)

    return Robustness(
        np.arange(100),
        labels,
        answers(clean),
        np.array([[answers(share) for share in row] for row in errors]),
        ("fog", "snow")[: len(errors)],
        (1, 2),
        CLASSES,
        {"fingerprint": fingerprint},
    )


def test_the_corruption_error_is_that_of_the_paper() -> None:
    model = result([[0.2, 0.4], [0.3, 0.3]])
    reference = result([[0.4, 0.8], [0.5, 0.7]], clean=0.2)
    table = corruption_errors(model, reference)
    assert table["ce"].tolist() == pytest.approx([0.6 / 1.2, 0.6 / 1.2])
    assert table["relative_ce"].tolist() == pytest.approx([(0.1 + 0.3) / (0.2 + 0.6), (0.2 + 0.2) / (0.3 + 0.5)])
    assert table["error"].tolist() == pytest.approx([0.3, 0.3])
    assert corruption_errors(model, model)["ce"].tolist() == [1, 1]


def test_a_reference_that_loses_nothing_gives_no_number() -> None:
    table = corruption_errors(result([[0.2, 0.4]]), result([[0.0, 0.0]], clean=0.0))
    assert table.isna().loc["fog", ["ce", "relative_ce"]].all()


def test_results_of_other_images_do_not_compare() -> None:
    with pytest.raises(RobustnessError, match="different images"):
        corruption_errors(result([[0.2, 0.4]]), result([[0.2, 0.4]], fingerprint="g"))


def test_what_is_kept_comes_back_and_damage_is_said(tmp_path: Path) -> None:
    kept = result([[0.2, 0.4], [0.3, 0.5]])
    kept.predictions[1, 1] = MISSING
    path = tmp_path / "corruptions.npz"
    kept.save(path)
    again = Robustness.load(path)
    assert again.accuracy().equals(kept.accuracy())
    assert again.done.tolist() == [[True, True], [True, False]]
    assert not again.finished
    assert np.isnan(again.mean_accuracy())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RobustnessError, match="damaged"):
        Robustness.load(path)


def do(folder: WorkFolder, task: dict[str, Any], cache: Path, stop_after: int = 10**9) -> int:
    """Work on a task in this process, and ask it to stop after so many signs of life."""
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    count = 0
    with folder.held():
        for _ in job.execute_task(folder, cache):
            count += 1
            if count == stop_after:
                folder.request("stop")
    folder.withdraw("stop")
    return count


def test_corruptions_are_predicted_kept_and_gone_on_with(
    trained_run: Run, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "POLL_SECONDS", 0.0)
    folder, task = job.corruption_task(trained_run, "best", tiny.info, 30)
    do(folder, task, tiny.cache, stop_after=40)
    assert folder.state == "stopped"
    part = Robustness.load(folder.path / "corruptions.npz")
    assert 0 < part.done.sum() < part.done.size
    do(folder, task, tiny.cache)
    assert folder.state == "finished"
    whole = Robustness.load(folder.path / "corruptions.npz")
    assert whole.finished
    assert np.array_equal(whole.predictions[part.done], part.predictions[part.done])
    assert (whole.rows, whole.columns) == (tuple(CORRUPTIONS), SEVERITIES)
    assert len(whole) == 30
    assert np.bincount(whole.labels).tolist() == [10, 10, 10]
    network = load_network(trained_run.checkpoints()["best"])
    images = job._subject(str(trained_run.path), "best", tiny.info.id, tiny.cache).images.images[whole.indices]
    ((_, spoilt),) = corrupted(images, "contrast", 4)
    row = whole.rows.index("contrast")
    assert np.array_equal(network.probabilities(spoilt).argmax(1).numpy(), whole.predictions[row, 3])
    assert whole.facts["run"] == trained_run.id
    assert job.corruption_task(trained_run, "best", tiny.info, 60)[0].path != folder.path


def test_attacks_are_kept_and_more_reach_never_helps_the_network(trained_run: Run, tiny: Any) -> None:
    folder, task = job.attack_task(trained_run, "best", tiny.info, 15)
    do(folder, task, tiny.cache)
    assert folder.state == "finished", folder.last_end
    found = Robustness.load(folder.path / "attacks.npz")
    assert (found.rows, found.columns) == (METHODS, EPSILONS)
    table = found.accuracy()
    assert table[0.0].tolist() == [found.clean_accuracy] * 2
    assert table.loc["pgd", 16.0] <= table.loc["pgd", 1.0] <= table.loc["pgd", 0.0]
