"""Evaluation against scikit-learn and closed forms."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from cifar_core.evaluation import Evaluation, EvaluationError, clustered


def drawn(count: int = 500, classes: int = 7, *, seed: int = 0, absent: tuple[int, ...] = ()) -> Evaluation:
    """Random labels, never of the absent classes, and probabilities that lean towards them."""
    chance = np.random.default_rng(seed)
    labels = chance.choice([k for k in range(classes) if k not in absent], count)
    logits = chance.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    if classes > 3:
        logits[:, absent] -= 100
    shares = np.exp(logits)
    names = tuple(f"class {k}" for k in range(classes))
    return Evaluation(
        labels, (shares / shares.sum(1, keepdims=True)).astype(np.float32), names, {"run": "r", "epoch": 3}
    )


CASES = [
    drawn(),
    drawn(60, 2, seed=1),
    drawn(200, 100, seed=2),
    drawn(80, 5, seed=3, absent=(1, 4)),
    drawn(40, 3, seed=4, absent=(2,)),
    drawn(1, 2, seed=5),
]


@pytest.fixture(params=CASES, ids=lambda e: f"{len(e)} images, {len(e.classes)} classes")
def evaluation(request):
    return request.param


def test_the_per_class_report_is_that_of_scikit_learn(evaluation):
    labels = range(len(evaluation.classes))
    expected = metrics.precision_recall_fscore_support(
        evaluation.labels, evaluation.predictions, labels=labels, zero_division=0
    )
    report = evaluation.report()
    assert list(report.index) == list(evaluation.classes)
    for column, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        np.testing.assert_allclose(report[column], values, rtol=1e-12)


def test_macro_averages_are_those_of_scikit_learn(evaluation):
    expected = metrics.precision_recall_fscore_support(
        evaluation.labels, evaluation.predictions, average="macro", zero_division=0
    )
    assert list(evaluation.macro().values()) == pytest.approx(expected[:3], rel=1e-12)
    assert list(evaluation.macro()) == ["precision", "recall", "f1"]


def test_confusion_accuracy_and_loss_are_those_of_scikit_learn(evaluation):
    labels = range(len(evaluation.classes))
    counts = evaluation.confusion()
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(
        counts, metrics.confusion_matrix(evaluation.labels, evaluation.predictions, labels=labels)
    )
    assert evaluation.accuracy == pytest.approx(metrics.accuracy_score(evaluation.labels, evaluation.predictions))
    precise = evaluation.probabilities.astype(np.float64)
    precise /= precise.sum(axis=1, keepdims=True)
    assert evaluation.loss == pytest.approx(metrics.log_loss(evaluation.labels, precise, labels=labels), rel=1e-5)
    assert evaluation.losses.dtype == np.float64


def test_top_k_is_that_of_scikit_learn(evaluation):
    classes = len(evaluation.classes)
    for k in {1, 2, classes // 2 or 1, classes}:
        if classes == 2:
            expected = 1.0 if k == 2 else evaluation.accuracy
        elif k == classes:
            expected = 1.0
        else:
            expected = metrics.top_k_accuracy_score(
                evaluation.labels, evaluation.probabilities, k=k, labels=range(classes)
            )
        assert evaluation.top_k(k) == pytest.approx(expected)
    assert evaluation.top_k(1) == evaluation.accuracy


def test_shares_of_a_row_have_the_sum_one_and_a_class_without_images_has_none():
    evaluation = drawn(80, 5, seed=3, absent=(1, 4))
    shares = evaluation.confusion_shares()
    assert np.isnan(shares[[1, 4]]).all()
    np.testing.assert_allclose(shares[[0, 2, 3]].sum(1), 1)
    counts = evaluation.confusion()
    assert shares[0, 2] == counts[0, 2] / counts[0].sum()


def test_a_worked_example_has_the_values_computed_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.8, 0.0]], np.float32)
    evaluation = Evaluation(np.array([0, 0, 1, 2]), probabilities, ("cat", "dog", "eel"))
    assert evaluation.predictions.tolist() == [0, 1, 0, 1]
    assert evaluation.accuracy == 0.25
    assert evaluation.confusion().tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert evaluation.top_k(2) == 0.5
    assert evaluation.confidences.tolist() == pytest.approx([0.7, 0.6, 0.5, 0.8])
    assert evaluation.losses[:3] == pytest.approx(-np.log([0.7, 0.1, 0.3]), rel=1e-6)
    assert evaluation.losses[3] == pytest.approx(-np.log(np.finfo(np.float32).tiny))
    mistakes = evaluation.mistakes()
    assert mistakes["index"].tolist() == [3, 1, 2]
    assert mistakes["true"].tolist() == ["eel", "cat", "dog"]
    assert mistakes["predicted"].tolist() == ["dog", "dog", "cat"]
    assert mistakes["probability_true"].tolist() == pytest.approx([0.0, 0.1, 0.3])
    assert mistakes["probability_predicted"].tolist() == pytest.approx([0.8, 0.6, 0.5])
    assert evaluation.mistakes(1)["index"].tolist() == [3]
    confused = evaluation.most_confused()
    assert list(zip(confused["true"], confused["predicted"], strict=True)) == [
        ("dog", "cat"),
        ("eel", "dog"),
        ("cat", "dog"),
    ]
    assert confused["images"].tolist() == [1, 1, 1]
    assert confused["share_of_true"].tolist() == [1.0, 1.0, 0.5]


def test_the_interval_of_the_accuracy_is_that_of_wilson():
    """Its ends are where the accuracy lies 1.96 standard deviations from them, which is how Wilson defined it."""
    evaluation = drawn(300)
    for end in evaluation.accuracy_interval():
        deviations = abs(evaluation.accuracy - end) / np.sqrt(end * (1 - end) / len(evaluation))
        assert deviations == pytest.approx(1.959964, rel=1e-5)
    low, high = evaluation.accuracy_interval()
    assert low < evaluation.accuracy < high


@pytest.mark.parametrize("right", [True, False])
def test_the_interval_stays_in_bounds_where_all_or_none_is_right(right):
    evaluation = Evaluation(np.full(10, int(right)), np.tile(np.array([[0.1, 0.9]], np.float32), (10, 1)), ("a", "b"))
    z2 = 1.959963984540054**2
    assert evaluation.accuracy_interval() == pytest.approx((10 / (10 + z2), 1) if right else (0, z2 / (10 + z2)))


def test_the_cells_hold_every_image_once_the_surest_first():
    evaluation = drawn()
    seen = []
    for true in range(7):
        for predicted in range(7):
            images = evaluation.cell(true, predicted)
            assert len(images) == evaluation.confusion()[true, predicted]
            assert (evaluation.labels[images] == true).all()
            assert (evaluation.predictions[images] == predicted).all()
            assert (np.diff(evaluation.probabilities[images, predicted]) <= 0).all()
            seen.extend(images.tolist())
    assert sorted(seen) == list(range(500))


def test_the_most_confused_pairs_are_the_largest_cells_off_the_diagonal():
    evaluation = drawn()
    counts = evaluation.confusion()
    np.fill_diagonal(counts, 0)
    confused = evaluation.most_confused(5)
    assert confused["images"].tolist() == sorted(counts.ravel().tolist(), reverse=True)[:5]
    assert evaluation.most_confused()["images"].sum() == len(evaluation.mistakes())


def test_a_perfect_model_has_no_mistakes_and_confuses_nothing():
    evaluation = Evaluation(np.array([0, 1]), np.eye(2, dtype=np.float32), ("a", "b"))
    assert evaluation.mistakes().empty
    assert list(evaluation.mistakes().columns) == list(drawn().mistakes().columns)
    assert evaluation.most_confused().empty
    assert evaluation.loss == 0


def test_the_summary_is_json_and_says_what_the_methods_say(evaluation):
    summary = json.loads(json.dumps(evaluation.summary(), allow_nan=False))
    assert summary["accuracy"] == evaluation.accuracy
    assert summary["macro"] == evaluation.macro()
    assert summary["confusion"] == evaluation.confusion().tolist()
    assert summary["images"] == len(evaluation)
    assert summary["facts"] == evaluation.facts
    per_class = pd.DataFrame(summary["per_class"]).set_index("class")
    pd.testing.assert_frame_equal(per_class, evaluation.report(), check_dtype=False, check_index_type=False)


def test_what_is_saved_is_what_is_loaded(evaluation, tmp_path):
    evaluation.save(tmp_path / "e.npz")
    loaded = Evaluation.load(tmp_path / "e.npz")
    np.testing.assert_array_equal(loaded.labels, evaluation.labels)
    np.testing.assert_array_equal(loaded.probabilities, evaluation.probabilities)
    assert loaded.probabilities.dtype == np.float32
    assert (loaded.classes, loaded.facts) == (evaluation.classes, evaluation.facts)
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]


def test_names_in_any_script_survive_saving(tmp_path):
    evaluation = Evaluation(np.array([0]), np.array([[1, 0]], np.float32), ("Kätzchen", "犬"), {"data": "Ordner “ü”"})
    evaluation.save(tmp_path / "e.npz")
    assert Evaluation.load(tmp_path / "e.npz").classes == ("Kätzchen", "犬")


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path, monkeypatch):
    old, new = drawn(seed=1), drawn(seed=2)
    old.save(tmp_path / "e.npz")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        new.save(tmp_path / "e.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]
    np.testing.assert_array_equal(Evaluation.load(tmp_path / "e.npz").labels, old.labels)


def test_a_file_damaged_anywhere_gives_one_sentence_or_the_same_values(tmp_path):
    path = tmp_path / "e.npz"
    evaluation = drawn(50)
    evaluation.save(path)
    whole = path.read_bytes()
    sentences = []
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                loaded = Evaluation.load(path)
            except EvaluationError as error:
                sentences.append(str(error))
            else:
                np.testing.assert_array_equal(loaded.probabilities, evaluation.probabilities)
    assert len(sentences) > 200
    assert all(sentence.startswith(f"{path} ") and "\n" not in sentence for sentence in sentences)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Evaluation.load(tmp_path / "none.npz")


def test_files_that_are_something_else_are_refused(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, labels=np.array([0]))
    with pytest.raises(EvaluationError, match="damaged or not an evaluation"):
        Evaluation.load(path)
    path.write_bytes(b"")
    with pytest.raises(EvaluationError, match="damaged or not an evaluation"):
        Evaluation.load(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(EvaluationError, match="damaged or not an evaluation"):
        Evaluation.load(tmp_path / "one.npy")
    with pytest.raises(EvaluationError, match="damaged or not an evaluation"):
        Evaluation.load(tmp_path)


def test_another_format_version_is_named(tmp_path):
    path = tmp_path / "e.npz"
    drawn(5).save(path)
    with np.load(path) as file:
        content = dict(file)
    about = json.loads(content["about"].tobytes()) | {"format_version": 99}
    np.savez(path, **(content | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}))
    with pytest.raises(EvaluationError, match="format version 99; this program reads version 1"):
        Evaluation.load(path)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_never_unpickles(tmp_path):
    path, touched = tmp_path / "e.npz", tmp_path / "touched"
    drawn(5).save(path)
    with np.load(path) as file:
        content = dict(file)
    np.savez(path, **(content | {"labels": np.array([Trap(touched)], dtype=object)}))
    assert zipfile.is_zipfile(path)
    with pytest.raises(EvaluationError, match="damaged"):
        Evaluation.load(path)
    assert not touched.exists()


GOOD = {
    "labels": np.array([0, 1]),
    "probabilities": np.array([[0.5, 0.5], [0.1, 0.9]], np.float32),
    "classes": ("a", "b"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a",)}, "at least two classes"),
        ({"classes": ("a", "a")}, "its own name"),
        ({"labels": np.array([[0, 1]])}, "labels must be"),
        ({"labels": np.array([0.0, 1.0])}, "labels must be"),
        ({"labels": np.array([], int), "probabilities": np.zeros((0, 2), np.float32)}, "at least one image"),
        ({"labels": np.array([0, 2])}, "from 0 to 1, but that of image 1 is 2"),
        ({"labels": np.array([-1, 0])}, "from 0 to 1, but that of image 0 is -1"),
        ({"classes": ("a", "b", "c")}, r"must be \(2, 3\)"),
        ({"labels": np.array([0, 1, 1])}, r"must be \(3, 2\)"),
        ({"probabilities": np.array([[0, 1], [1, 0]])}, "floating-point"),
        ({"probabilities": np.array([[0.5, 0.5], [np.nan, 1]])}, "finite, but those of image 1"),
        ({"probabilities": np.array([[1.5, -0.5], [0.5, 0.5]])}, "from 0 to 1, but those of image 0"),
        ({"probabilities": np.array([[0.5, 0.5], [0.5, 0.4]])}, "sum 1, but those of image 1 have 0.9"),
        ({"facts": {"path": object()}}, "facts must be what JSON can hold"),
        ({"facts": {"loss": float("nan")}}, "facts must be what JSON can hold"),
    ],
)
def test_values_that_do_not_fit_together_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(**(GOOD | change))


def test_k_and_cells_out_of_range_are_named():
    evaluation = Evaluation(**GOOD)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k must be from 1 to 2, the number of classes, but is {k}"):
            evaluation.top_k(k)
    for cell in ((2, 0), (0, -1)):
        with pytest.raises(ValueError, match="must be a class from 0 to 1"):
            evaluation.cell(*cell)


def test_the_values_cannot_be_changed_afterwards():
    labels = np.array([0, 1])
    evaluation = Evaluation(**(GOOD | {"labels": labels}))
    labels[0] = 1
    assert evaluation.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        evaluation.probabilities[0] = 0


def test_reading_an_evaluation_needs_neither_torch_nor_scikit_learn():
    program = "import sys, cifar_core.evaluation; print({'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_weighted_averages_are_those_of_scikit_learn(evaluation):
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        evaluation.labels, evaluation.predictions, average="weighted", zero_division=0
    )
    assert evaluation.weighted() == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_bootstrap_intervals_are_those_of_drawing_images():
    """The multinomial cells of a sample say the same as images drawn one by one and judged by scikit-learn."""
    evaluation = drawn(300, 4)
    bounds = evaluation.bootstrap(4000)
    random, count = np.random.default_rng(1), len(evaluation)
    figures = {"accuracy": [], "macro f1": [], "weighted precision": []}
    for _ in range(400):
        chosen = random.integers(0, count, count)
        labels, said = evaluation.labels[chosen], evaluation.predictions[chosen]
        figures["accuracy"].append((labels == said).mean())
        figures["macro f1"].append(metrics.f1_score(labels, said, average="macro", zero_division=0))
        figures["weighted precision"].append(metrics.precision_score(labels, said, average="weighted", zero_division=0))
    for name, values in figures.items():
        spread = np.std(values)
        assert bounds.loc[name].tolist() == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), abs=spread / 2)
    assert bounds.equals(evaluation.bootstrap(4000)), "the same each time"
    assert set(bounds.index) == {"accuracy"} | {f"{k} {n}" for k in ("macro", "weighted") for n in evaluation.macro()}


def test_margins_are_the_lead_of_the_own_class(evaluation):
    for place in range(min(20, len(evaluation))):
        others = np.delete(evaluation.probabilities[place], evaluation.labels[place])
        own = evaluation.probabilities[place, evaluation.labels[place]]
        assert evaluation.margins[place] == pytest.approx(own - others.max())
    assert (evaluation.margins[~evaluation.correct] <= 0).all()


def test_classes_that_are_mistaken_for_each_other_stand_together():
    confusion = np.diag(np.full(6, 50))
    for one, other in ((0, 3), (3, 5), (0, 5), (1, 2), (2, 4), (1, 4)):
        confusion[one, other] = confusion[other, one] = 10
    order = clustered(confusion).tolist()
    assert sorted(order) == list(range(6))
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset({0, 3, 5}), frozenset({1, 2, 4})}
    assert 0 in order[:3], "the first class is in the first half"
    assert sorted(clustered(np.diag(np.full(4, 9))).tolist()) == [0, 1, 2, 3]
