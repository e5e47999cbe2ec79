"""The report: one file with everything in it, and nothing in it that a run's texts could put there."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cifar_core import job
from cifar_core.__main__ import _asked, _parser, main
from cifar_core.comparing import holm
from cifar_core.config import FIELDS
from cifar_core.evaluation import Evaluation
from cifar_core.events import Changed
from cifar_core.reporting import commands, plotly_js, report
from cifar_core.runs import Run, create_run
from tests.conftest import Tiny


def keep_evaluation(run: Run, tiny: Tiny, wrong: int, key: str = "0123456789abcdef") -> Evaluation:
    labels = np.repeat(np.arange(3), 20)
    guesses = labels.copy()
    guesses[:wrong] = (guesses[:wrong] + 1) % 3
    facts = {
        "run": run.id,
        "checkpoint": "best",
        "epoch": 3.0,
        "data": "shapes",
        "split": "test",
        "fingerprint": tiny.info.fingerprint,
    }
    evaluation = Evaluation(labels, np.eye(3, dtype=np.float32)[guesses], tiny.info.classes, facts)
    evaluation.save(run.task(f"evaluate-{key}").path / "evaluation.npz")
    return evaluation


def figures(text: str) -> list[dict[str, Any]]:
    found = re.search(r"const figures=(\[.*?\]);figures\.forEach", text, re.DOTALL)
    assert found
    return json.loads(found[1].replace("<\\/", "</"))


def table(text: str, name: str) -> pd.DataFrame:
    """A table as the report's own link to its CSV gives it."""
    found = re.search(rf'download="{name}\.csv" href="data:text/csv;base64,([^"]+)"', text)
    assert found, name
    return pd.read_csv(io.BytesIO(base64.b64decode(found[1])), index_col=0)


def test_a_report_of_a_run_holds_all_that_is_promised(run_in_state: Callable[..., Run], tiny: Tiny) -> None:
    run = run_in_state("finished", learning_rate=0.02)
    evaluation = keep_evaluation(run, tiny, 6)
    text = report([run])
    assert text.count(plotly_js()[:300]) == 1, "plotly.js once"
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)', text), "nothing is fetched"
    drawn = figures(text)
    assert [figure["data"][0]["type"] for figure in drawn].count("heatmap") == 1
    assert drawn[0]["data"][0]["y"] == pytest.approx([0.4, 0.7, 0.8])
    matrix = next(figure for figure in drawn if figure["data"][0]["type"] == "heatmap")
    assert np.array(matrix["data"][0]["z"]) == pytest.approx(evaluation.confusion_shares(), abs=1e-5)
    assert "Test accuracy 90.00% (95 % Wilson interval" in text
    captions = re.findall(r'</div><p class="facts">(.*?)</p>', text)
    assert len(captions) == len(drawn)
    for caption in captions:
        assert run.id in caption
        assert "shapes" in caption
        assert "epoch" in caption
    assert table(text, "settings").loc["Learning rate", "value"] == "0.02"
    assert table(text, "environment").loc["parameters", "value"] == "11,251"
    assert table(text, "classes")["images"].tolist() == [20, 20, 20]
    assert f"python -m cifar_core evaluate {run.id}" in text


def test_a_report_of_several_compares_them(run_in_state: Callable[..., Run], tiny: Tiny) -> None:
    runs = [run_in_state("finished", seed=seed) for seed in (1, 2)]
    for run, wrong in zip(runs, (30, 6), strict=True):
        keep_evaluation(run, tiny, wrong)
    text = report(runs)
    assert "is better by 40.0 points (95 % interval" in text
    assert table(text, "pairs")["only this one right"].tolist() == [24]
    assert table(text, "seeds")["mean"].tolist() == pytest.approx([0.8, 0.7])
    settings = table(text, "settings")
    assert settings.index[0] == "Seed"
    assert settings.iloc[0].tolist() == ["1", "2"]
    assert len(figures(text)) == 3


def test_the_tests_of_several_runs_are_judged_together(run_in_state: Callable[..., Run], tiny: Tiny) -> None:
    runs = [run_in_state("finished", seed=seed) for seed in (1, 2, 3)]
    for run, wrong in zip(runs, (30, 24, 22), strict=True):
        keep_evaluation(run, tiny, wrong)
    rows = table(report(runs), "pairs")
    alone, together = rows["McNemar's p (exact)"].tolist(), rows["p among all (Holm)"].tolist()
    assert together == pytest.approx(holm(alone), abs=1e-3)
    assert together != alone


def test_classes_that_are_called_by_numbers_are_names_in_all_charts(
    run_in_state: Callable[..., Run], tiny: Tiny
) -> None:
    run, classes = run_in_state("finished"), ("30", "50", "stop")
    labels = np.repeat(np.arange(3), 20)
    facts = {"run": run.id, "checkpoint": "best", "epoch": 3.0, "data": "signs", "split": "test"}
    evaluation = Evaluation(labels, np.eye(3, dtype=np.float32)[labels], classes, facts)
    evaluation.save(run.task("evaluate-0123456789abcdef").path / "evaluation.npz")
    axes = [
        figure["layout"][f"{axis}axis"].get("type")
        for figure in figures(report([run]))
        for axis in "xy"
        if list(figure["data"][0].get(axis) or []) == list(classes)
    ]
    assert axes == ["category"] * 3


def test_names_and_notes_are_text_and_nothing_else(run_in_state: Callable[..., Run], tiny: Tiny) -> None:
    run = run_in_state("finished")
    labels = np.repeat(np.arange(3), 20)
    classes = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "stripes")
    facts = {"run": run.id, "checkpoint": "best", "epoch": 3.0, "data": "<b>shapes</b>", "split": "test"}
    evaluation = Evaluation(labels, np.eye(3, dtype=np.float32)[labels], classes, facts)
    evaluation.save(run.task("evaluate-0123456789abcdef").path / "evaluation.npz")
    text = report([run]).replace(plotly_js(), "")
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "<b>" not in text
    assert text.count("</script>") == 2


def test_a_run_without_epochs_or_evaluation_has_a_report_too(run_in_state: Callable[..., Run]) -> None:
    text = report([run_in_state("ready")])
    assert "is ready" in text
    assert "not been evaluated" in text
    with pytest.raises(ValueError, match="at least one run"):
        report([])


def test_the_commands_train_the_same_again(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("finished", learning_rate=0.02, tensorboard=True)
    line = commands(run, run.config)[0].replace("\\\n", " ")
    options = _parser().parse_args(shlex.split(line)[3:])
    again, asked = _asked(options), run.config
    for name in FIELDS:
        if asked.used(name):
            assert getattr(again, name) == getattr(asked, name), name


def test_the_commands_fork_and_repeat_what_was_forked_and_changed(
    trained_run: Run, make_run: Callable[..., Run], tiny: Tiny
) -> None:
    config = dataclasses.replace(trained_run.settings, epochs=5, dropout=0.25)
    child = create_run(config, trained_run.root, parent=trained_run, checkpoint="best")
    line = commands(child, child.config)[0].replace("\\\n", " ")
    assert "--recipe" not in line
    options = _parser().parse_args(shlex.split(line)[3:])
    assert (options.fork, options.checkpoint, options.runs) == (trained_run.id, "best", trained_run.root)
    given = {name: getattr(options, name) for name in FIELDS if hasattr(options, name)}
    assert given == {"epochs": 5, "dropout": 0.25}
    assert not any("repeat" in line for line in commands(child, child.config))
    with child.held():
        child.append(Changed(step=3, epoch=0.3, values={"flip": 0.0}, before={"flip": 0.5}))
    assert f"python -m cifar_core repeat {child.id} --runs {child.root}" in commands(child, child.settings)


def test_the_command_writes_the_file(
    run_in_state: Callable[..., Run], runs_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_in_state("finished")
    output = tmp_path / "out.html"
    assert main(["report", run.id, "--runs", str(runs_root), "--output", str(output)]) == 0
    assert output.read_text().startswith("<!doctype html>")
    assert str(output) in capsys.readouterr().out
    assert main(["report", run.id, "--runs", str(runs_root), "--output", str(tmp_path / "no" / "x.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["report", "nothing", "--runs", str(runs_root)]) == 1


def test_kept_evaluations_of_the_best_weights_come_first(trained_run: Run, tiny: Tiny) -> None:
    from cifar_core.reporting import material

    assert material(trained_run).evaluation is None
    keep_evaluation(trained_run, tiny, 6)
    folder, _ = job.evaluation_task(trained_run, "last", tiny.info)
    (folder.path / "evaluation.npz").write_bytes(b"damaged")
    found = material(trained_run).evaluation
    assert found is not None
    assert found.accuracy == pytest.approx(0.9)
