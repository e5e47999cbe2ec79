"""The command line does what the pages do, and says it to people and to programs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from cifar_core import __main__ as command
from cifar_core import job, logits
from cifar_core.__main__ import main
from cifar_core.calibration import fitted_temperature
from cifar_core.config import FIELD_TYPES, FIELDS, RECIPES
from cifar_core.datasets import open_cached
from cifar_core.evaluation import Evaluation
from cifar_core.events import Boot, End, duration
from cifar_core.networks import load_network, load_tensors
from cifar_core.photos import read_photo, to_input
from cifar_core.runs import Run, create_run, list_runs
from tests.conftest import ROOT, Tiny, refuse_folders, tiny_config

QUICK = [
    *("--model", "single_conv", "--epochs", "2", "--batch-size", "16", "--optimizer", "adam"),
    *("--learning-rate", "0.003", "--schedule", "constant", "--device", "cpu", "--precision", "float32"),
]
PATIENCE_SECONDS = 120.0


class Said:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output, beside which there must be nothing."""
        assert self.code == 0, self.err
        values = json.loads(self.out)
        assert isinstance(values, dict)
        return values

    @property
    def error(self) -> str:
        """The sentence of a command that could not be done and was to answer in JSON."""
        assert self.code == 1, (self.out, self.err)
        values = json.loads(self.out)
        assert list(values) == ["error"]
        assert self.err == values["error"] + "\n", "people see it as well"
        return str(values["error"])

    @property
    def refusal(self) -> str:
        """The one sentence on standard error of a command that could not be done."""
        assert self.code == 1, (self.out, self.err)
        assert self.out == ""
        assert self.err.endswith(".\n")
        assert self.err.count("\n") == 1, "a sentence is one line"
        assert "Traceback" not in self.err
        assert not self.err.startswith("[Errno")
        return self.err.removesuffix("\n")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Give a command in this process."""

    def give(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return give


def started(*words: object, cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Give a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cifar_core", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> Said:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    return Said(process.returncode, out, err)


def until(wanted: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not wanted():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def photo(tmp_path: Path, tiny: Tiny) -> Path:
    """A drawing, larger than the network sees and not square."""
    path = tmp_path / "photo.png"
    with Image.open(tiny.source / "test" / "square" / "003.png") as drawing:
        drawing.resize((240, 240)).crop((-30, 0, 270, 240)).save(path)
    return path


# data ----------------------------------------------------------------------------------------------------------------


def test_data_says_what_is_in_a_data_set(say: Callable[..., Said], tiny: Tiny, tmp_path: Path) -> None:
    said = say("data", "--data", tiny.source, "--cache", tmp_path / "cache")
    assert said.code == 0
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == tiny.info.name
    assert str(tiny.source) in lines[1]
    assert lines[2] == "  180 training and 60 test images, 3 classes"
    assert re.fullmatch(r"  mean \((0\.\d{4}(, )?){3}\), standard deviation \((0\.\d{4}(, )?){3}\) of .*", lines[3])
    assert [line.split() for line in lines[4:]] == [
        ["circle", "60", "20"],
        ["square", "60", "20"],
        ["stripes", "60", "20"],
    ]


def test_data_says_it_to_programs(say: Callable[..., Said], tiny: Tiny) -> None:
    values = say("data", "--data", tiny.source, "--cache", tiny.cache, "--json").json
    assert values["id"] == tiny.info.id
    assert values["classes"] == ["circle", "square", "stripes"]
    assert (values["train_counts"], values["test_counts"]) == ([60, 60, 60], [20, 20, 20])
    assert values["mean"] == pytest.approx(tiny.info.mean)
    assert values["fingerprint"] == tiny.info.fingerprint


def test_cartoon10_is_named_instead_of_a_path(say: Callable[..., Said], tmp_path: Path, monkeypatch: Any) -> None:
    from cifar_core import cartoon

    monkeypatch.setattr(cartoon, "COUNTS", {"train": 400, "test": 100})
    said = say("data", "--data", "cartoon10", "--cache", tmp_path / "cache")
    assert said.code == 0
    assert said.out.startswith("cartoon10 (drawn by code, not CIFAR-10)\n  from cartoon10\n  400 training and 100 test")
    said = say("data", "--data", "./cartoon10", "--cache", tmp_path / "cache")
    assert said.code == 1
    assert "There is no file or folder" in said.err


def test_data_without_a_source_says_how_to_name_one(say: Callable[..., Said]) -> None:
    assert say("data").refusal == "Name a data set with --data PATH, or fetch the original with --download."


def test_data_that_is_not_there_is_one_sentence(say: Callable[..., Said], tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in say("data", "--data", tmp_path / "nowhere", "--cache", tmp_path).refusal


# train ---------------------------------------------------------------------------------------------------------------

EPOCH_LINE = re.compile(
    r"epoch (?P<epoch>\d+)/2  training loss (?P<train_loss>\d+\.\d{4}) acc (?P<train_accuracy>\d+\.\d\d)%  "
    r"validation loss (?P<validation_loss>\d+\.\d{4}) acc (?P<validation_accuracy>\d+\.\d\d)%(?P<best> \*|  )  "
    r"(?P<speed>[\d,]+) images/s  (?P<left>\d+ s|\d+ min \d+ s) left"
)


def test_train_prints_its_folder_and_a_line_for_each_epoch(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path
) -> None:
    said = say("train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *QUICK)
    assert said.code == 0
    assert said.err == ""
    lines = said.out.splitlines()
    run = Run(Path(lines[0]))
    assert list_runs(runs_root) == [run]
    assert run.state == "finished"
    found = [match for match in map(EPOCH_LINE.fullmatch, lines) if match]
    assert len(found) == 2
    for match, epoch in zip(found, run.epochs, strict=True):
        assert int(match["epoch"]) == epoch.epoch
        assert float(match["train_loss"]) == pytest.approx(epoch.train_loss, abs=5e-5)
        assert float(match["train_accuracy"]) == pytest.approx(100 * epoch.train_accuracy, abs=5e-3)
        assert float(match["validation_loss"]) == pytest.approx(epoch.validation_loss, abs=5e-5)
        assert float(match["validation_accuracy"]) == pytest.approx(100 * epoch.validation_accuracy, abs=5e-3)
        assert (match["best"] == " *") == epoch.best
        assert float(match["speed"].replace(",", "")) == pytest.approx(epoch.images_per_second, abs=0.5)
    assert found[-1]["left"] == "0 s"
    assert any("162 training, 18 validation images. 11,251 parameters." in line for line in lines)
    assert run.last_end is not None
    assert lines[-1] == run.last_end.message


def test_train_goes_on_with_a_run_as_it_is_set(
    say: Callable[..., Said], tiny: Tiny, run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("interrupted")
    where = ("--runs", run.path.parent, "--cache", tiny.cache)
    assert say("train", "--run", run.id, *where, "--epochs", 5).refusal.endswith("leave out --epochs.")
    assert say("train", "--run", run.id, *where, "--json").json["run"] == str(run.path)
    assert run.state == "finished"
    assert "has finished" in say("train", "--run", run.id, *where).refusal
    with run.held():
        run.append(Boot(pid=1, host="elsewhere"))
        assert say("train", "--run", run.id, *where).refusal == f"Run {run.id} is starting already."


def test_train_says_it_to_programs(say: Callable[..., Said], tiny: Tiny, runs_root: Path) -> None:
    values = say("train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *QUICK, "--json").json
    run = Run(Path(values["run"]))
    last, best = run.epochs[-1], run.best
    assert best is not None
    assert values["state"] == "finished"
    assert values["epochs"] == 2
    assert values["train_loss"] == last.train_loss
    assert values["validation_accuracy"] == last.validation_accuracy
    assert values["best_epoch"] == best.epoch
    assert values["best_validation_accuracy"] == best.validation_accuracy


def test_train_takes_every_setting(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: dict[str, Any] = {
        "data": str(tiny.source),
        "train_images": 50,
        "validation_fraction": 0.25,
        "normalisation": "half",
        "model": "resnet18",
        "width": 0.5,
        "dropout": 0.25,
        "initialisation": "he",
        "epochs": 7,
        "batch_size": 9,
        "optimizer": "adamw",
        "momentum": 0.8,
        "sync_batchnorm": True,
        "tensorboard": True,
        "compile": True,
        "nesterov": False,
        "fixed_norm": True,
        "weight_decay": 0.001,
        "l1": 0.0001,
        "clip_norm": 1.5,
        "ema": 0.99,
        "stop_patience": 6,
        "label_smoothing": 0.05,
        "learning_rate": 0.02,
        "schedule": "step",
        "warmup_fraction": 0.1,
        "warmup_epochs": 1.5,
        "step_epochs": 4,
        "patience": 2,
        "gamma": 0.3,
        "decay": 0.9,
        "flip": 0.25,
        "crop_padding": 3,
        "rotation": 12.0,
        "cutout": 5,
        "mixup": 0.2,
        "cutmix": 0.5,
        "early_size": 16,
        "early_share": 0.3,
        "seed": 11,
        "classes": "circle,square",
        "only_selection": "hard-ones",
        "without_selection": "train.00000000.3",
        "imbalance": "step",
        "imbalance_ratio": 4.0,
        "keep_logits": 7,
        "folds": 3,
        "fold": 2,
        "objective": "simclr",
        "temperature": 0.2,
        "frozen": True,
        "crop_scale": 0.4,
        "colour_jitter": 0.3,
        "grey": 0.2,
        "augmentation_strength": 1.5,
        "flip_mode": "alternating",
        "crop_padding_mode": "reflect",
        "crop_padding_probability": 0.9,
        "policy": "randaugment",
        "policy_operations": 3,
        "policy_magnitude": 12,
        "policy_probability": 0.8,
        "rotation_probability": 0.7,
        "translation": 0.1,
        "translation_probability": 0.6,
        "scaling": 0.2,
        "scaling_probability": 0.5,
        "crop_scale_probability": 0.4,
        "colour_jitter_probability": 0.3,
        "blur": 1.5,
        "blur_probability": 0.2,
        "cutout_probability": 0.1,
        "erasing": 0.25,
        "erasing_from": 0.05,
        "erasing_to": 0.4,
        "erasing_ratio": 2.0,
        "images_at_once": 5,
        "keep_every": 3,
        "device": "cpu",
        "precision": "float32",
    }
    assert set(wanted) == set(FIELDS)
    monkeypatch.setattr("cifar_core.__main__._follow", lambda run, options: 0)
    words: list[object] = []
    for name, value in wanted.items():
        flag = name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", value]
    say("train", "--runs", runs_root, *words)
    (run,) = list_runs(runs_root)
    assert {name: getattr(run.config, name) for name in FIELDS} == wanted


def test_train_starts_from_a_recipe_of_which_single_settings_change(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_core.__main__._follow", lambda run, options: 0)
    say("train", "--runs", runs_root, "--data", tiny.source, "--recipe", "guide_cnn", "--epochs", 3)
    (run,) = list_runs(runs_root)
    for name, value in {**RECIPES["guide_cnn"].settings, "epochs": 3, "data": str(tiny.source)}.items():
        assert getattr(run.config, name) == value


def test_train_keeps_the_whole_path_of_its_data(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on with the run may be in another folder."""
    monkeypatch.setattr("cifar_core.__main__._follow", lambda run, options: 0)
    monkeypatch.chdir(tiny.source.parent)
    said = say("train", "--runs", os.path.relpath(runs_root), "--data", tiny.source.name)
    assert Path(said.out.splitlines()[0]).is_absolute()
    (run,) = list_runs(runs_root)
    assert run.config.data == str(tiny.source)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", "0"], "epochs must be at least 1, but is 0."),
        (["--learning-rate", "nan"], "learning_rate must be a finite number, but is nan."),
        (["--schedule", "sted"], "schedule must be one of "),
        (["--width", "2", "--model", "resnet18_transfer"], "width must be 1 for resnet18_transfer, "),
    ],
)
def test_a_bad_setting_is_one_sentence_and_makes_no_run(
    say: Callable[..., Said], runs_root: Path, words: list[str], sentence: str
) -> None:
    said = say("train", "--runs", runs_root, *words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(sentence)
    assert said.err.count("\n") == 1
    assert list_runs(runs_root) == []


def test_a_training_that_fails_is_one_sentence(
    say: Callable[..., Said], runs_root: Path, tmp_path: Path, tiny: Tiny
) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "damaged"))
    damaged = source / "train" / "circle" / "000.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    words = ["train", "--runs", runs_root, "--cache", tmp_path / "cache", "--data", source, *QUICK]
    said = say(*words)
    (run,) = list_runs(runs_root)
    assert said.code == 1
    assert said.out.splitlines()[0] == str(run.path)
    assert said.err.count("\n") == 1
    assert str(damaged) in said.err
    said = say(*words, "--json")
    assert said.code == 1
    values = json.loads(said.out)
    assert values["state"] == "failed"
    assert str(damaged) in values["message"]


def test_without_any_data_a_training_is_on_what_is_drawn(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def named(cache: Path) -> str:
        return command._asked(command._parser().parse_args(["train", "--cache", str(cache)])).data

    assert named(tmp_path / "nothing") == "cartoon10"
    said = capsys.readouterr()
    assert said.out == "", "the first line is the run's folder"
    assert "this is on cartoon10 (drawn by code, not CIFAR-10)" in said.err
    assert named(tiny.cache) == "", "other data is there, of which one is to be named"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "The run names no data set; give its path with --data"),
        (["--data", "nowhere"], "There is no file or folder "),
        (["--data", "SOURCE", "--device", "mps"], "device is mps, but this machine offers PyTorch only CPU"),
        (["--data", "SOURCE", "--device", "cpu", "--precision", "float16"], "precision is float16, whose small range"),
        (["--data", "SOURCE", "--train-images", "163"], "train_images must be at most 162, what is left of "),
    ],
)
def test_what_is_known_to_fail_makes_no_run(
    say: Callable[..., Said],
    runs_root: Path,
    tiny: Tiny,
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from cifar_core import compute

    monkeypatch.setattr(compute, "_has_cuda", lambda: False)
    monkeypatch.setattr(compute, "_has_mps", lambda: False)
    monkeypatch.chdir(tmp_path)
    words = [str(tiny.source) if word == "SOURCE" else word for word in words]
    assert say("train", "--runs", runs_root, "--cache", tiny.cache, *words).refusal.startswith(sentence)
    assert not runs_root.exists()


def test_what_a_library_prints_is_not_mixed_with_the_answer_for_programs(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet18_Weights

    def chatty(*_: Any, **__: Any) -> None:
        sys.stdout.write('Downloading: "https://example.org" to a folder\n')
        raise OSError("no network")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", chatty)
    words = [*QUICK, "--model", "resnet18_transfer", "--json"]
    said = say("train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *words)
    assert json.loads(said.out)["state"] == "failed"
    assert "Downloading" in said.err


def test_a_training_whose_output_nobody_reads_any_more_goes_on(tiny: Tiny, runs_root: Path) -> None:
    train = started("train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *QUICK)
    assert train.stdout is not None
    assert train.stderr is not None
    run = Run(Path(train.stdout.readline().strip()))
    train.stdout.close()
    assert train.wait(PATIENCE_SECONDS) == 0
    assert run.state == "finished"
    assert train.stderr.read() == ""
    train.stderr.close()


def test_a_console_without_the_signs_of_a_name_gets_them_spelt_out(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "shapes"))
    for split in ("train", "test"):
        (source / split / "circle").rename(source / split / "Käse")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = finished(started("data", "--data", source, "--cache", tmp_path / "cache"))
    assert said.code == 0, said.err
    assert "K\\xe4se" in said.out


def test_files_left_out_are_told(say: Callable[..., Said], tiny: Tiny, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "shapes"))
    (source / "train" / "circle" / "a.gif").write_bytes(b"GIF89a")
    words = ["data", "--data", source, "--cache", tmp_path / "cache"]
    assert say(*words).out.splitlines()[-1] == "  1 file was left out: 1 .gif."
    assert say(*words, "--json").json["left_out"] == "1 file was left out: 1 .gif."


def test_a_cache_that_cannot_be_made_is_named(say: Callable[..., Said], tiny: Tiny) -> None:
    sentence = say("data", "--data", tiny.source, "--cache", "/proc/x").refusal
    assert sentence == "The cache folder /proc/x cannot be made: No such file or directory; choose another one."


def test_a_run_that_cannot_be_made_is_one_sentence(say: Callable[..., Said], tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "file").write_text("")
    assert "No run can be made in" in say("train", "--runs", tmp_path / "file", "--data", tiny.source).refusal


@pytest.mark.parametrize(
    ("words", "named", "command"),
    [
        ([], "COMMAND", ""),
        (["fly"], "'fly'", ""),
        (["train", "--epochs", "many"], "--epochs: invalid int value: 'many'", " train"),
        (["train", "--epoch-count", "3"], "--epoch-count", ""),
        (["train", "--recipe", "nope"], "'nope'", " train"),
        (["stop"], "RUN", " stop"),
    ],
)
def test_what_is_not_understood_is_one_sentence(
    words: list[str], named: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert named in said.err
    assert said.err.endswith(f"; python -m cifar_core{command} --help lists what can be given.\n")


def test_help_names_every_setting_with_its_bounds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # Lines are broken at hyphens too.
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in FIELDS.items():
        assert f"--{name.replace('_', '-')}" in text
        assert " ".join(field.metadata["help"].split()) in text
        for word, side in (("at least", "low"), ("at most", "high")):
            bound = field.metadata[side]
            assert bound is None or f"{word} {bound}" in text, (name, side)


# evaluate ------------------------------------------------------------------------------------------------------------


def test_evaluate_equals_scikit_learn_on_the_stored_probabilities(
    say: Callable[..., Said], tiny: Tiny, trained_run: Run
) -> None:
    values = say("evaluate", trained_run.path, "--cache", tiny.cache, "--json").json
    (stored,) = trained_run.path.glob("tasks/evaluate-*/evaluation.npz")
    evaluation = Evaluation.load(stored)
    labels, predicted = evaluation.labels, evaluation.probabilities.argmax(1)
    assert 0 < (labels != predicted).sum() < 30, "without a mistake the comparison says little"
    precision, recall, f1, count = precision_recall_fscore_support(labels, predicted, zero_division=0)
    assert values["images"] == 60
    assert values["classes"] == ["circle", "square", "stripes"]
    assert values["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert values["confusion"] == confusion_matrix(labels, predicted).tolist()
    assert values["macro"] == pytest.approx({"precision": precision.mean(), "recall": recall.mean(), "f1": f1.mean()})
    for k, row in enumerate(values["per_class"]):
        assert row["class"] == values["classes"][k]
        numbers = (row["precision"], row["recall"], row["f1"], row["images"])
        assert numbers == pytest.approx((precision[k], recall[k], f1[k], count[k]))
    assert values["facts"]["run"] == trained_run.id
    assert values["facts"]["checkpoint"] == "best"
    assert values["facts"]["split"] == "test"


def test_evaluate_prints_its_tables(say: Callable[..., Said], tiny: Tiny, trained_run: Run) -> None:
    values = say("evaluate", trained_run.id, "--runs", trained_run.path.parent, "--cache", tiny.cache, "--json").json
    said = say("evaluate", trained_run.id, "--runs", trained_run.path.parent, "--cache", tiny.cache)
    assert said.code == 0
    assert said.err == ""
    assert f"run {trained_run.id}, best checkpoint (epoch {values['facts']['epoch']:g})" in said.out
    assert "60 test images of Images in shapes" in said.out
    low, high = values["accuracy_interval"]
    assert f"accuracy {values['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})" in said.out
    macro = values["macro"]
    wanted = f"macro precision {macro['precision']:.4f}, recall {macro['recall']:.4f}, F1 {macro['f1']:.4f}"
    assert wanted in said.out
    lines = said.out.splitlines()
    for name, counts in zip(values["classes"], values["confusion"], strict=True):
        assert [name, *map(str, counts)] in [line.split() for line in lines]
    for row in values["per_class"]:
        numbers = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
        assert any(line.split()[:4] == [row["class"], *numbers] for line in lines)


def test_evaluate_computes_once_for_each_checkpoint(say: Callable[..., Said], tiny: Tiny, trained_run: Run) -> None:
    def results() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in trained_run.path.glob("tasks/*/evaluation.npz")}

    command = ["evaluate", trained_run.path, "--cache", tiny.cache, "--json"]
    first, before = say(*command).json, results()
    assert say(*command).json == first
    assert results() == before
    last = say(*command, "--checkpoint", "last").json
    assert last["facts"]["checkpoint"] == "last"
    assert len(results()) == 2
    file, copy = trained_run.checkpoints()["best"], trained_run.path / "copy"
    shutil.copyfile(file, copy)
    copy.replace(file)
    assert say(*command).json == first
    assert len(results()) == 3


def test_evaluate_waits_for_who_already_does_it(say: Callable[..., Said], tiny: Tiny, trained_run: Run) -> None:
    from cifar_core import job

    folder, task = job.evaluation_task(trained_run, "best", tiny.info)
    job.start_task(folder, task, tiny.cache)
    assert say("evaluate", trained_run.path, "--cache", tiny.cache, "--json").json["images"] == 60
    until(lambda: not folder.alive)
    assert folder.state == "finished"


def test_a_run_that_may_only_be_read_is_evaluated(
    say: Callable[..., Said], tiny: Tiny, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", trained_run.path, "--cache", tiny.cache, "--json"]
    with monkeypatch.context() as patch:
        refuse_folders(patch, "tasks")
        aside = say(*words).json
    assert not (trained_run.path / "tasks").exists()
    assert aside == say(*words).json


def test_evaluate_on_other_images(say: Callable[..., Said], tiny: Tiny, trained_run: Run, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "fewer"))
    for name in ("000", "001"):
        (source / "test" / "circle" / f"{name}.png").unlink()
    values = say("evaluate", trained_run.path, "--data", source, "--cache", tmp_path / "cache", "--json").json
    assert values["images"] == 58
    assert values["facts"]["data"] == "Images in fewer"


# predict -------------------------------------------------------------------------------------------------------------


def test_predict_tells_what_is_in_a_photo(say: Callable[..., Said], trained_run: Run, photo: Path) -> None:
    said = say("predict", trained_run.path, photo)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith(f"run {trained_run.id}, best checkpoint (epoch ")
    shares = {line.split()[1]: float(line.split()[0].rstrip("%")) for line in lines[1:]}
    assert set(shares) == {"circle", "square", "stripes"}
    assert sum(shares.values()) == pytest.approx(100, abs=0.05)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert next(iter(shares)) == "square"


def test_predict_says_it_to_programs_and_draws_a_heat_map(
    say: Callable[..., Said], trained_run: Run, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "heat.png"
    values = say("predict", trained_run.path, photo, "--heatmap", out, "--checkpoint", "last", "--json").json
    assert values["run"] == trained_run.id
    assert values["checkpoint"] == "last"
    assert values["predicted"] == "square"
    assert values["heatmap"] == str(out)
    network = load_network(trained_run.checkpoints()["last"])
    wanted = network.probabilities(to_input(read_photo(photo.read_bytes()))[None])[0].tolist()
    assert values["temperature"] is None, "all validation images are told right, which fits none"
    assert values["foreign"] is None, "nobody has found out what is strange to this run"
    assert values["probabilities"] == pytest.approx(dict(zip(network.classes, wanted, strict=True)), abs=1e-5)
    with Image.open(out) as drawn, Image.open(photo) as plain:
        assert drawn.format == "PNG"
        assert drawn.size == (240, 240), "the part of the photo that the network sees, as large as it is"
        middle = plain.convert("RGB").crop((30, 0, 270, 240))
        assert np.abs(np.asarray(drawn.convert("RGB"), int) - np.asarray(middle, int)).max() > 20


def test_predict_says_how_its_probabilities_are_calibrated(
    say: Callable[..., Said], trained_run: Run, photo: Path
) -> None:
    first = say("predict", trained_run.path, photo).out.splitlines()[0]
    assert first.endswith(", not calibrated")
    # As if it had been less sure, and wrong once.
    network = load_network(trained_run.checkpoints()["best"])
    folder, epoch = trained_run.logits("validation"), int(network.metadata["epoch"])
    kept = logits.read(folder)
    values = kept.values[kept.epochs == epoch][0].astype(np.float32) / 4
    values[0] = np.roll(values[0], 1)
    logits.keep(folder, epoch, values)
    found = say("predict", trained_run.path, photo, "--json").json
    temperature = fitted_temperature(values, kept.images.labels)
    assert found["temperature"] == pytest.approx(temperature, rel=0.02)
    assert temperature != pytest.approx(1, abs=0.1)
    said = next(network.logits(to_input(read_photo(photo.read_bytes()))[None]))[0].double()
    wanted = torch.softmax(said / found["temperature"], dim=0).tolist()
    assert found["probabilities"] == pytest.approx(dict(zip(network.classes, wanted, strict=True)), abs=1e-5)
    first = say("predict", trained_run.path, photo).out.splitlines()[0]
    assert first.endswith(f", calibrated (temperature {found['temperature']:.3f})")


def test_predict_names_a_picture_that_is_foreign(
    say: Callable[..., Said], trained_run: Run, tiny: Tiny, photo: Path, tmp_path: Path
) -> None:
    folder, task = job.strangeness_task(trained_run, "best", tiny.info)
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        assert list(job.execute_task(folder, tiny.cache))[-1].outcome == "finished"
    noise = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(noise)
    assert say("predict", trained_run.path, noise, "--json").json["foreign"] is True
    assert "Unlike anything it was trained on" in say("predict", trained_run.path, noise).out
    inside = tmp_path / "inside.png"
    Image.fromarray(open_cached(tiny.info.id, tiny.cache).test.images[0].transpose(1, 2, 0)).save(inside)
    assert say("predict", trained_run.path, inside, "--json").json["foreign"] is False
    assert "Unlike" not in say("predict", trained_run.path, inside).out


def test_a_heat_map_is_said_so(say: Callable[..., Said], trained_run: Run, photo: Path, tmp_path: Path) -> None:
    said = say("predict", trained_run.path, photo, "--heatmap", tmp_path / "heat.png")
    assert said.out.splitlines()[-1] == f"Heat map for square: {tmp_path / 'heat.png'}"


def test_what_cannot_be_predicted_is_one_sentence(
    say: Callable[..., Said], trained_run: Run, photo: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert "text.png" in say("predict", trained_run.path, text).refusal
    nowhere = tmp_path / "nowhere.png"
    assert say("predict", trained_run.path, nowhere).refusal == f"{nowhere} cannot be read: No such file or directory."
    out = tmp_path / "no folder" / "heat.png"
    wanted = f"{out} cannot be written: No such file or directory."
    assert say("predict", trained_run.path, photo, "--heatmap", out).refusal == wanted
    assert say("predict", trained_run.path, tmp_path).refusal == f"{tmp_path} cannot be read: Is a directory."


# Which run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "predict", "stop", "pause", "resume"])
@pytest.mark.parametrize("json_too", [False, True])
def test_a_run_that_is_not_there_is_one_sentence(
    say: Callable[..., Said], runs_root: Path, photo: Path, command: str, json_too: bool
) -> None:
    more = [photo] if command == "predict" else []
    for name, sentence in (
        ("20260101-000000-single_conv-0000", "There is no run 20260101-000000-single_conv-0000 in "),
        ("secrets", "'secrets' is not the id of a run."),
        ("../secrets", "There is no run in ../secrets."),
    ):
        said = say(command, name, *more, "--runs", runs_root, *(["--json"] if json_too else []))
        assert (said.error if json_too else said.refusal).startswith(sentence)


def test_the_folder_of_no_run_is_not_taken_for_a_run_of_that_name(say: Callable[..., Said], trained_run: Run) -> None:
    elsewhere = f"/nope/{trained_run.id}"
    said = say("evaluate", elsewhere, "--runs", trained_run.path.parent)
    assert said.refusal == f"There is no run in {elsewhere}."


@pytest.mark.parametrize("form", ["folder", "folder/", "id", "relative"])
def test_a_run_is_named_by_its_folder_or_its_id(
    say: Callable[..., Said], tiny: Tiny, trained_run: Run, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_run.path.parent)
    name = {
        "folder": str(trained_run.path),
        "folder/": f"{trained_run.path}/",
        "id": trained_run.id,
        "relative": f"./{trained_run.id}",
    }[form]
    runs = trained_run.path.parent if form == "id" else "elsewhere"
    values = say("evaluate", name, "--runs", runs, "--cache", tiny.cache, "--json").json
    assert values["facts"]["run"] == trained_run.id


def test_a_run_without_weights_is_one_sentence(
    say: Callable[..., Said], run_in_state: Callable[..., Run], photo: Path
) -> None:
    for state in ("ready", "running", "interrupted"):
        run = run_in_state(state)
        wanted = f"Run {run.id} has no weights yet; its first epoch must end, or be stopped, first."
        assert say("evaluate", run.path).refusal == wanted
        assert say("predict", run.path, photo).refusal == wanted


def test_a_checkpoint_that_is_not_there_is_one_sentence(say: Callable[..., Said], trained_run: Run) -> None:
    trained_run.checkpoints()["best"].unlink()
    wanted = f"Run {trained_run.id} has no best checkpoint; it has last."
    assert say("evaluate", trained_run.path, "--checkpoint", "best").refusal == wanted
    outside = say("evaluate", trained_run.path, "--checkpoint", "../../secret").refusal
    assert outside == f"Run {trained_run.id} has no ../../secret checkpoint; it has last."


def test_weights_that_were_kept_on_purpose_can_be_used(
    say: Callable[..., Said], make_run: Callable[..., Run], photo: Path
) -> None:
    run = make_run(epochs=2, keep_every=1)
    first = say("evaluate", run.path, "--checkpoint", "epoch-1", "--json").json
    assert (first["facts"]["checkpoint"], first["facts"]["epoch"]) == ("epoch-1", 1)
    assert say("predict", run.path, photo, "--checkpoint", "epoch-2", "--json").json["epoch"] == 2


def test_what_the_system_refuses_is_one_sentence(
    say: Callable[..., Said], trained_run: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, sentence in (
        (InterruptedError(4, "Interrupted system call", "/a/file"), "Interrupted system call: /a/file."),
        (
            OSError(28, "No space left on device", "/a/file"),
            "The disk is full: /a/file could not be written; free some space and try again.",
        ),
    ):

        def refuse(*_: Any, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(Run, "task", refuse)
        assert say("evaluate", trained_run.path, "--cache", tiny.cache).refusal == sentence


def test_a_damaged_checkpoint_is_one_sentence(
    say: Callable[..., Said], tiny: Tiny, trained_run: Run, photo: Path
) -> None:
    file = trained_run.checkpoints()["best"]
    file.write_bytes(file.read_bytes()[:500])
    for words in (["evaluate", trained_run.path, "--cache", tiny.cache], ["predict", trained_run.path, photo]):
        assert str(file) in say(*words).refusal


# stop, pause, resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["stop", "pause", "save", "change"])
@pytest.mark.parametrize("state", ["ready", "finished", "stopped", "failed", "interrupted"])
def test_what_is_not_running_cannot_be_stopped_or_paused(
    say: Callable[..., Said], run_in_state: Callable[..., Run], command: str, state: str
) -> None:
    run = run_in_state(state)
    words = ["--dropout", 0.5] if command == "change" else []
    assert say(command, run.path, *words).refusal.startswith(f"Run {run.id} is not running; it is {state}")
    assert not run.requested(command)


def test_a_finished_run_is_not_resumed(say: Callable[..., Said], run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("finished")
    for given in ([], ["--learning-rate", 5], ["--epochs", run.settings.epochs]):
        assert say("resume", run.path, *given).refusal == (
            f"Run {run.id} has finished; to train on, add --epochs with more than its {run.settings.epochs}."
        )
        assert not run.requested("change"), "what was refused must not be done later"


def test_a_finished_run_trains_on_for_more_epochs(
    say: Callable[..., Said], make_run: Callable[..., Run], tiny: Tiny
) -> None:
    from cifar_core import job

    run = make_run(epochs=1)
    try:
        assert say("resume", run.path, "--epochs", 3, "--cache", tiny.cache).code == 0
        until(lambda: run.state == "finished" and len(run.epochs) == 3)
    finally:
        run.request("stop")
        job._await_exit(run)


def test_a_fork_begins_with_its_parents_weights_and_settings(
    say: Callable[..., Said], make_run: Callable[..., Run], tiny: Tiny
) -> None:
    parent = make_run(epochs=2, keep_every=1)
    where = ["--cache", tiny.cache, "--runs", parent.path.parent]
    said = say(
        "train", "--fork", parent.id, "--checkpoint", "epoch-1", "--epochs", 3, "--dropout", 0.3, *where, "--json"
    )
    child = Run(Path(said.json["run"]))
    assert child.parent == (parent.id, "epoch-1")
    assert child.config == dataclasses.replace(parent.settings, epochs=3, dropout=0.3)
    assert [epoch.epoch for epoch in child.epochs] == [2, 3]
    assert "leave out --recipe" in say("train", "--fork", parent.id, "--recipe", "quick", *where).refusal
    assert "has no epoch-9 checkpoint" in say("train", "--fork", parent.id, "--checkpoint", "epoch-9", *where).refusal
    assert "or add --fork" in say("train", "--checkpoint", "best", *where).refusal


def test_a_run_is_repeated_bit_for_bit(say: Callable[..., Said], trained_run: Run, tiny: Tiny) -> None:
    said = say("repeat", trained_run.path, "--cache", tiny.cache, "--runs", trained_run.path.parent, "--json")
    again = Run(Path(said.json["run"]))
    assert again.id != trained_run.id
    one, other = (load_tensors(run.checkpoints()["last"])[0] for run in (trained_run, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_worker_that_does_not_answer_is_said_so(
    say: Callable[..., Said], run_in_state: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_core.__main__.ANSWER_SECONDS", 0.2)
    run = run_in_state("running")
    said = say("pause", run.path)
    assert said.code == 0
    assert said.out == f"Run {run.id} is still running; it does what was asked after its current step.\n"
    assert run.requested("pause")
    said = say("stop", run.path)
    assert said.refusal == (
        f"Run {run.id} has not stopped within 0.2 seconds and is still running; it stops after its current step."
    )
    assert say("stop", run.path, "--json").error == said.refusal
    assert run.requested("stop")


def test_a_waiting_run_answers_at_once(
    say: Callable[..., Said], run_in_state: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core.events import Boot, Waiting

    run = run_in_state("ready")
    monkeypatch.setattr("cifar_core.__main__.ANSWER_SECONDS", 1000.0)
    with run.held():
        run.append(Boot(pid=1, host="elsewhere"))
        run.append(Waiting(device="cpu"))
        began = time.monotonic()
        paused = say("pause", run.path)
        assert run.requested("pause")
        resumed = say("resume", run.path)
        assert not run.requested("pause")
        assert time.monotonic() - began < 20
    assert paused.out == f"Run {run.id} is waiting for its device; it pauses as soon as it trains.\n"
    assert resumed.out == f"Run {run.id} is waiting for its device; it begins when that is free.\n"


def test_resuming_a_run_that_fails_again_says_why(
    say: Callable[..., Said], run_in_state: Callable[..., Run], tmp_path: Path
) -> None:
    from cifar_core import job

    run = run_in_state("failed", data=str(tmp_path / "nowhere"))
    said = say("resume", run.path, "--cache", tmp_path / "cache")
    assert "There is no file or folder" in said.refusal
    job._await_exit(run)
    assert "There is no file or folder" in say("resume", run.path, "--cache", tmp_path / "cache", "--json").error


@pytest.fixture
def ended(runs_root: Path) -> Iterator[None]:
    """Ends what a failed test leaves running."""
    yield
    for run in list_runs(runs_root):
        if run.alive:
            run.request("stop")
            until(lambda run=run: not run.alive)


@pytest.mark.usefixtures("ended")
def test_a_run_is_paused_resumed_stopped_and_resumed_from_another_terminal(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tiny, epochs=1000)
    given = [name for name in FIELDS if name != "data" and FIELD_TYPES[name][0] is not bool]
    words = [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in given]
    train = started("train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *words)
    try:
        assert train.stdout is not None
        run = Run(Path(train.stdout.readline().strip()))
        until(lambda: run.epochs)

        assert say("pause", run.path).out == f"Run {run.id} is paused.\n"
        assert run.state == "paused"
        assert say("resume", run.path, "--json").json == {"run": run.id, "state": "running"}
        step = run.latest.step if run.latest else 0
        until(lambda: run.latest and run.latest.step > step)
        changed = say("change", run.path, "--learning-rate", 0.25, "--dropout", 0.5, "--json").json
        assert changed["values"] == {"learning_rate": 0.25, "dropout": 0.5}
        assert changed["step"] == run.changes[-1].step >= step
        assert (run.settings.learning_rate, run.settings.dropout) == (0.25, 0.5)
        assert say("change", run.path, "--dropout", 0.25).out.startswith(f"Run {run.id}: dropout 0.25 from step ")
        assert "epochs must be at least" in say("change", run.path, "--epochs", 1).refusal
        assert "learning_rate must be at least" in say("change", run.path, "--learning-rate", -1).refusal
        assert say("change", run.path).refusal == "Name what to change, e.g. --learning-rate 0.001."
        kept = say("save", run.path, "--json").json["checkpoint"]
        assert kept in run.checkpoints()
        assert say("stop", run.path, "--json").json == {"run": run.id, "state": "stopped"}
        said = finished(train)
    finally:
        train.kill()
        train.communicate()
    assert said.code == 0, said.err
    assert said.err == ""
    assert re.search(r"\nStopped after \d+\.\d\d epochs; the weights are kept\.\n$", said.out)

    # With relative names, from a folder the worker does not work in.
    monkeypatch.chdir(tmp_path)
    where = ["--runs", os.path.relpath(runs_root), "--cache", os.path.relpath(tiny.cache)]
    before = load_tensors(run.checkpoints()["last"])[1]["step"]
    in_force = ["--dropout", run.settings.dropout]
    assert say("resume", run.id, *in_force, *where).out == f"Run {run.id} is running.\n"
    until(lambda: run.latest and run.latest.step > before)
    assert say("stop", run.id, *where).out == f"Run {run.id} is stopped.\n"
    assert run.log_tail() == ""


def test_a_member_of_a_team_that_diverges_says_so_in_one_sentence(
    say: Callable[..., Said], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core import __main__ as command_line
    from cifar_core.training import Diverged

    def diverge(*_: Any) -> int:
        raise Diverged("The training loss stopped being a number.")

    monkeypatch.setattr(command_line, "_train_together", diverge)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert say("train", "--data", tiny.source).refusal == "The training loss stopped being a number."


def test_resuming_right_after_stopping_is_no_race(
    say: Callable[..., Said], tiny: Tiny, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has said its last word still lives for a moment."""
    from cifar_core import job
    from cifar_core.events import Boot, End

    trained_run.append(Boot(pid=1, host="elsewhere"))
    trained_run.append(End(outcome="stopped", message="Stopped."))
    launched = []
    monkeypatch.setattr(job, "launch", lambda run, cache: launched.append(run) or run.append(Boot(pid=2, host="here")))
    monkeypatch.setattr("cifar_core.__main__.ANSWER_SECONDS", 0.2)
    with trained_run.held():
        said = say("resume", trained_run.path)
    assert launched == [trained_run]
    assert said.out == f"Run {trained_run.id} is still starting; it does what was asked after its current step.\n"


def test_ctrl_c_stops_a_training_and_keeps_the_weights(tiny: Tiny, runs_root: Path) -> None:
    create_run(tiny_config(tiny), runs_root)  # Another run beside it does not matter.
    words = [*QUICK, "--epochs", 1000]
    train = started("train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *words)
    try:
        assert train.stdout is not None
        run = Run(Path(train.stdout.readline().strip()))
        until(lambda: run.epochs)
        train.send_signal(signal.SIGINT)
        said = finished(train)
    finally:
        train.kill()
        train.communicate()
    assert said.code == 0, said.err
    assert "Traceback" not in said.err
    assert run.state == "stopped"
    assert load_network(run.checkpoints()["last"]).classes == tiny.info.classes


def test_a_second_ctrl_c_ends_a_training_at_once(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny), runs_root)
    # It never comes to the point where it would stop.
    program = (
        "import sys, time; from pathlib import Path; from cifar_core import job; from cifar_core.runs import Run\n"
        "job.stop_on_signals(Run(Path(sys.argv[1]))); print('ready', flush=True)\n"
        "while True: time.sleep(0.01)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(run.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        until(lambda: run.requested("stop"))
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_a_program_can_be_told_by_its_exit_code_alone(tmp_path: Path) -> None:
    said = finished(started("data", "--data", tmp_path / "nowhere", "--cache", tmp_path, cwd=tmp_path))
    assert str(tmp_path / "nowhere") in said.refusal


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (7380, "2 h 3 min")],
)
def test_a_time_span_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# runs ----------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_with_what_is_said_of_them(say: Callable[..., Said], trained_run: Run) -> None:
    where = ("--runs", trained_run.path.parent)
    assert say("runs", "rename", trained_run.id, "first", "try", *where).out == f"Run {trained_run.id}: 'first try'.\n"
    assert say("runs", "star", trained_run.path, *where).out == f"Run {trained_run.id}: 'first try', starred.\n"
    lines = say("runs", *where).out.splitlines()
    best = trained_run.best
    assert best
    assert lines[0].split() == [
        trained_run.id,
        "finished",
        f"{best.validation_accuracy:.2%}",
        "validation",
        "'first",
        "try',",
        "starred",
    ]
    assert re.fullmatch(r"1 run, [\d.]+ [kM]B", lines[1])
    (facts,) = say("runs", "--json", *where).json["runs"]
    assert facts["run"] == trained_run.id
    assert (facts["name"], facts["starred"], facts["archived"]) == ("first try", True, False)
    assert facts["bytes"] == trained_run.disk_use().total
    assert facts["checkpoints"][0] == "best"
    assert facts["place"] is None


def test_archived_runs_are_listed_on_request(say: Callable[..., Said], trained_run: Run) -> None:
    where = ("--runs", trained_run.path.parent)
    assert say("runs", "archive", trained_run.id, "--json", *where).json["archived"] is True
    assert say("runs", *where).out == "0 runs, 0 B\n"
    assert "archived" in say("runs", "--all", *where).out
    say("runs", "unarchive", trained_run.id, *where)
    assert trained_run.id in say("runs", *where).out


def test_a_run_is_deleted_only_when_that_is_meant(say: Callable[..., Said], trained_run: Run) -> None:
    where = ("--runs", trained_run.path.parent)
    assert "add --yes" in say("runs", "delete", trained_run.id, *where).refusal
    assert trained_run.path.exists()
    assert say("runs", "delete", trained_run.id, "--yes", "--json", *where).json["deleted"] is True
    assert not trained_run.path.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["rename"], "Name the run to rename"),
        (["star", "RUN", "more"], "star takes one run and nothing else"),
        (["rename", "RUN", "<b>"], "may not hold '<'"),
        (["first", "RUN"], "does not wait; it is finished"),
        (["archive", "20200101-000000-x-0000"], "There is no run 20200101-000000-x-0000"),
    ],
)
def test_what_cannot_be_done_with_a_run_is_one_sentence(
    say: Callable[..., Said], trained_run: Run, words: list[str], why: str
) -> None:
    words = [trained_run.id if word == "RUN" else word for word in words]
    assert why in say("runs", *words, "--runs", trained_run.path.parent).refusal


# range-test and series -----------------------------------------------------------------------------------------------


def test_a_range_test_suggests_rates_and_is_kept(say: Callable[..., Said], tiny: Tiny, cache: Path) -> None:
    words = ["range-test", "--data", tiny.source, "--cache", cache, *QUICK]
    found = say(*words, "--json").json
    assert list(found["suggestions"]) == ["minimum/10", "steepest", "valley", "slide"]
    assert 1e-5 < found["suggestions"]["valley"] < 0.1
    (folder,) = (cache.parent / "tasks").glob("range-*")
    before = (folder / "events.jsonl").read_bytes()
    said = say(*words)
    assert said.code == 0
    assert f"{len(found['points'])} steps with adam" in said.out
    assert f"valley    {found['suggestions']['valley']:>8g}  The middle of the longest stretch" in said.out
    assert (folder / "events.jsonl").read_bytes() == before, "it was done again"


def test_a_range_test_without_data_is_refused(say: Callable[..., Said], cache: Path) -> None:
    assert "names no data set" in say("range-test", "--cache", cache).refusal


def test_repeats_say_mean_and_deviation(say: Callable[..., Said], tiny: Tiny, runs_root: Path) -> None:
    words = ["train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *QUICK, "--epochs", "1"]
    found = say(*words, "--repeats", "2", "--json").json
    last = [run["validation_accuracy"] for run in found["runs"]]
    assert (found["kind"], found["count"], found["finished"]) == ("seeds", 2, 2)
    assert found["last"]["mean"] == pytest.approx(np.mean(last))
    assert found["last"]["deviation"] == pytest.approx(np.std(last, ddof=1))
    assert sorted(run.config.seed for run in list_runs(runs_root)) == [0, 1]
    said = say(*words, "--cross-validate", "2")
    assert said.code == 0
    assert "2 of 2 runs have finished." in said.out
    assert re.search(r"validation accuracy, last epoch: mean [\d.]+%, standard deviation [\d.]+%", said.out)
    assert "must be at least 2" in say(*words, "--repeats", "1").refusal


def test_runs_of_a_stopped_series_are_stopped_too_and_how_to_go_on_is_said(
    say: Callable[..., Said], tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(run: Run, options: Any) -> End:
        run.append(end := End(outcome="stopped", message="Stopped after 0.50 epochs; the weights are kept."))
        return end

    monkeypatch.setattr(command, "_work", stopped)
    words = ["train", "--data", tiny.source, "--cache", tiny.cache, "--runs", runs_root, *QUICK, "--repeats", "3"]
    said = say(*words)
    runs = sorted(list_runs(runs_root), key=lambda run: run.config.seed)
    assert [run.state for run in runs] == ["stopped"] * 3
    assert runs[2].last_end.message == "Stopped before it began, with its series."
    places = [said.out.index(f"train --run {run.id} --runs {runs_root}") for run in runs]
    assert places == sorted(places)
