"""The panels below an answer on the Explain page: maps, trust, training images, foreign pictures and the eraser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.erasing import erase
from cifar_core.evaluation import softmax
from cifar_core.explain import METHODS
from cifar_core.familiarity import Known
from cifar_core.logits import Temperature
from cifar_core.networks import load_network
from cifar_core.runs import Run
from cifar_core.strangeness import Strangeness
from pages.ui import charts, explaining, foreign, loaders
from tests.conftest import Tiny
from tests.test_page_explain import PHOTO, bars, file_of, several, text_of, upload

PAGE = "pages/explain.py"
Open = Callable[..., Any]
MAPS, TRUST, OVER = "Maps side by side", "Can the map be trusted?", "The map over training"
FOREIGN, PULL, ERASER = "Is it one of the classes at all?", "Training images that shaped the answer", "Patch eraser"


def opened(dashboard: Open, panel: str, state: dict[str, Any] | None = None, **query: str) -> Any:
    app = dashboard(PAGE, **query)
    app.session_state[f"panel_{panel}"] = True
    for key, value in (state or {}).items():
        app.session_state[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def alts(app: Any) -> list[str]:
    """What a screen reader says of the small pictures."""
    page = "".join(element.proto.body for element in app.get("html"))
    return re.findall(r'<img src="data:image/png[^"]*" alt="([^"]*)"', page)


@pytest.fixture
def known_run(trained_run: Run, tiny: Tiny) -> Run:
    folder, task = job.familiarity_task(trained_run, "best", tiny.info)
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        assert list(job.execute_task(folder, tiny.cache))[-1].outcome == "finished"
    return trained_run


def table_of(run: Run, tiny: Tiny) -> Known:
    return Known.load(job.familiarity_task(run, "best", tiny.info)[0].path / "known.npz")


def test_panels_are_closed_and_cost_nothing_at_first(dashboard: Open, trained_run: Run) -> None:
    app = dashboard(PAGE)
    titles = [panel.label for panel in app.expander]
    assert titles == [MAPS, TRUST, OVER, FOREIGN, "Do several runs agree?", PULL, ERASER]
    assert not alts(app)


def test_every_method_is_drawn_side_by_side_on_one_scale(dashboard: Open, trained_run: Run) -> None:
    app = opened(dashboard, MAPS, {"side_methods": list(METHODS)})
    pictures = alts(app)
    assert [alt.split(" of the evidence")[0].removesuffix(" (of no class)") for alt in pictures] == [
        method.title for method in METHODS.values()
    ]
    text = text_of(app)
    assert re.search(r"Full heat is [\d.]+ times the mean strength of a map, or more, in all pictures", text)
    assert "Grad-CAM (Selvaraju et al., 2017)" in text
    assert f"Run {trained_run.id} · best weights" in text
    assert "guides the 1 ReLU layers" in text


def test_layers_of_one_method_and_this_against_that(dashboard: Open, trained_run: Run) -> None:
    state = {"side_kind": "Layers", "side_layers": ["conv1", "pool1"], "side_why": "square", "side_not": "circle"}
    app = opened(dashboard, MAPS, state)
    assert [alt.split(" of ")[0] for alt in alts(app)] == ["conv1", "pool1"]
    assert "What speaks for square and not circle." in text_of(app)
    page = "".join(element.proto.body for element in app.get("html"))
    assert "conv1 · 30×30 cells" in page
    assert "pool1 · 15×15 cells" in page


def test_runs_are_asked_the_same(dashboard: Open, trained_run: Run, make_run: Callable[..., Run]) -> None:
    other = make_run(seed=5)
    app = opened(dashboard, MAPS, {"side_kind": "Runs"}, run=trained_run.id)
    found = alts(app)
    assert len(found) == 2
    for run in (trained_run, other):
        assert any(run.id.split("-")[3] in alt for alt in found)


def test_an_empty_map_is_a_warning_and_no_red_picture(
    dashboard: Open, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core import explain

    plain = explain.explain

    def hardly(model: Any, images: Any, method: str, *more: Any, **how: Any) -> Any:
        return plain(model, images, method, *more, **how) * (method == "occlusion")

    monkeypatch.setattr(explain, "explain", hardly)
    app = opened(dashboard, MAPS, {"side_methods": ["grad_cam", "occlusion"]})
    (warning,) = [warning for warning in app.warning if "Nothing speaks for" in warning.value]
    assert "Grad" in warning.value
    assert "Occlusion" not in warning.value
    assert [alt.endswith(", empty") for alt in alts(app)] == [True, False]
    app.session_state[f"panel_{TRUST}"] = True
    app.run()
    assert "This map is empty" in text_of(app)


def test_trust_tells_areas_against_chance_and_what_is_left_without_learning(dashboard: Open, trained_run: Run) -> None:
    app = opened(dashboard, TRUST)
    text = text_of(app)
    assert "15×15 cells apart, enlarged to 32×32 pixels" in text
    areas = re.search(
        r"deletion curve ([\d.]+), by chance ([\d.]+) .*insertion curve ([\d.]+), by chance ([\d.]+)", text
    )
    assert areas
    assert all(0 <= float(area) <= 1 for area in areas.groups())
    assert "With all weights new" in text
    assert "Adebayo" in text


def test_the_map_over_training_is_drawn_at_each_kept_moment(dashboard: Open, make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=3, keep_every=1)
    app = opened(dashboard, OVER, run=run.id)
    assert len(alts(app)) == 3
    page = "".join(element.proto.body for element in app.get("html"))
    assert [int(epoch) for epoch in re.findall(r"epoch (\d): ", page)] == [1, 1, 2, 2, 3, 3]
    assert "at the 3 moments whose weights" in text_of(app)


def cut_short(path: Any) -> None:
    path.write_bytes(path.read_bytes()[:50])


def test_damaged_weights_of_a_moment_leave_the_others(dashboard: Open, make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=3, keep_every=1)
    cut_short(run.checkpoints()["epoch-1"])
    app = opened(dashboard, OVER, run=run.id)
    page = "".join(element.proto.body for element in app.get("html"))
    assert [int(epoch) for epoch in re.findall(r"epoch (\d): ", page)] == [2, 2, 3, 3]


def test_damaged_weights_of_another_run_are_left_out_with_a_sentence(
    dashboard: Open, trained_run: Run, make_run: Callable[..., Run]
) -> None:
    other = make_run(seed=5)
    for path in other.checkpoints().values():
        cut_short(path)
    for panel, state in ((MAPS, {"side_kind": "Runs"}), ("Do several runs agree?", {})):
        app = opened(dashboard, panel, state, run=trained_run.id)
        assert not app.exception
        (said,) = [box.value.replace("\\", "") for box in app.warning]
        assert other.id.split("-")[3] in said
        assert "cannot be read, so it is left out" in said


def test_damaged_tables_of_a_run_cost_their_panel_alone_and_can_be_made_again(
    dashboard: Open, strange_run: Run, known_run: Run, tiny: Tiny
) -> None:
    cut_short(job.strangeness_task(strange_run, "best", tiny.info)[0].path / "strangeness.npz")
    app = opened(dashboard, FOREIGN, run=strange_run.id)
    assert "Look at the images" in [button.label for button in app.button]
    table = job.familiarity_task(known_run, "best", tiny.info)[0].path / "known.npz"
    cut_short(table)
    app = opened(dashboard, PULL, run=known_run.id)
    next(button for button in app.button if button.label == "Compute it again").click().run()
    assert not app.exception
    assert not table.exists()
    assert "Look at all images" in [button.label for button in app.button]


def test_a_run_that_kept_one_moment_says_how_to_keep_more(dashboard: Open, make_run: Callable[..., Run]) -> None:
    app = opened(dashboard, OVER, run=make_run().id)
    assert "keep_every" in text_of(app)


def test_before_all_images_were_looked_at_a_button_offers_it(dashboard: Open, trained_run: Run) -> None:
    for panel, label in ((FOREIGN, "Look at the images"), (PULL, "Look at all images")):
        app = opened(dashboard, panel)
        assert label in [button.label for button in app.button]
        assert not alts(app)


def test_the_images_that_pulled_most_are_those_of_the_core(
    dashboard: Open, known_run: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loss knows nothing of a temperature that is fitted afterwards.
    monkeypatch.setattr(loaders, "temperature", lambda run, epoch: Temperature(2.5, 100))
    app = opened(dashboard, PULL, image="4")
    table = table_of(known_run, tiny)
    split = open_cached(tiny.info.id, tiny.cache).test
    network = load_network(known_run.checkpoints()["best"])
    feature = next(iter(network.embeddings(split.images[4][None]))).numpy()[0]
    answer = network.probabilities(split.images[4][None])[0].numpy()
    pulls = table.influence(feature, answer, int(answer.argmax()))
    best = table.indices[np.argsort(-pulls)[:8]]
    assert [int(re.search(r"Training image (\d+)", alt)[1]) for alt in alts(app)[8:16]] == best.tolist()
    nearest = table.nearest(feature, 8)[0]
    assert [int(re.search(r"Training image (\d+)", alt)[1]) for alt in alts(app)[:8]] == table.indices[nearest].tolist()
    assert "TracIn (Pruthi et al., 2020) of the last layer at these weights" in text_of(app)


@pytest.fixture
def strange_run(trained_run: Run, tiny: Tiny) -> Run:
    folder, task = job.strangeness_task(trained_run, "best", tiny.info)
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        assert list(job.execute_task(folder, tiny.cache))[-1].outcome == "finished"
    return trained_run


def test_a_picture_is_ranked_among_the_test_images(dashboard: Open, strange_run: Run, tiny: Tiny) -> None:
    app = opened(dashboard, FOREIGN, image="4")
    kept = Strangeness.load(job.strangeness_task(strange_run, "best", tiny.info)[0].path / "strangeness.npz")
    network = load_network(strange_run.checkpoints()["best"])
    pixels = open_cached(tiny.info.id, tiny.cache).test.images
    measures = kept.measure(network, np.array(pixels[4])[None])
    ranks = kept.ranks(measures)[0]
    told = [f"stranger than {foreign.share(rank)} of the test images" for rank in (ranks[0], ranks[1], ranks[-1])]
    assert [metric.delta for metric in app.metric] == told
    assert app.metric[2].value == f"{kept.altogether(measures)[0]:.1f}"
    assert app.metric[0].value == f"{measures[0, 0]:.2f}"
    text = text_of(app)
    assert f"Percentiles are of the 60 test images of {kept.facts['data']}" in text
    assert f"{kept.false_alarms:.1%} are called foreign by mistake" in text
    assert "too few to promise a rate" in text
    assert f"Run {strange_run.id} · best weights" in text


def test_a_rank_never_looks_like_all_where_it_is_not() -> None:
    told = [foreign.share(rank) for rank in (0.0, 0.0004, 0.5, 0.9995, 1.0)]
    assert told == ["0.0%", "<0.1%", "50.0%", "over 99.9%", "all"]


@pytest.mark.parametrize("strange", [True, False])
def test_a_foreign_picture_is_called_so_in_place_of_a_class(
    dashboard: Open, strange_run: Run, tiny: Tiny, strange: bool
) -> None:
    path = job.strangeness_task(strange_run, "best", tiny.info)[0].path / "strangeness.npz"
    kept = Strangeness.load(path)
    path.write_bytes(replace(kept, validation=kept.validation + (-1e6 if strange else 1e6)).content())
    page = file_of(Image.new("RGB", (90, 90), (255, 255, 255)), "PNG")
    for app in (dashboard(PAGE, image="4"), upload(dashboard(PAGE, **PHOTO), "page.png", page)):
        said = [element.value for element in app.markdown]
        assert sum("Unlike anything it was trained on" in text for text in said) == strange
        classes = load_network(strange_run.checkpoints()["best"]).classes
        headlines = [text for text in said if text.startswith(tuple(f"**{name}**, " for name in classes))]
        assert len(headlines) == 1 - strange


def test_several_photos_are_called_foreign_one_by_one(dashboard: Open, strange_run: Run, tiny: Tiny) -> None:
    path = job.strangeness_task(strange_run, "best", tiny.info)[0].path / "strangeness.npz"
    kept = Strangeness.load(path)
    like = Image.fromarray(np.array(open_cached(tiny.info.id, tiny.cache).train.images[0]).transpose(1, 2, 0))
    page = Image.fromarray(np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8) * 255)
    network = load_network(strange_run.checkpoints()["best"])
    sums = kept.altogether(
        kept.measure(network, np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in (like, page)]))
    )
    assert sums[0] <= kept.threshold < sums[1]
    app = several(dashboard(PAGE, **PHOTO), like=file_of(like, "PNG"), page=file_of(page, "PNG"))
    (table,) = [frame.value for frame in app.dataframe if "Top class" in frame.value]
    assert table["Top class"][0] in network.classes
    # Of what is foreign the class is said that it would be called, which is a guess.
    pixels = np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in (like, page)])
    best = softmax(next(network.logits(pixels)).numpy(), loaders.temperature(strange_run, 3).value)[1]
    assert table["Top class"][1] == f"foreign, else {network.classes[best.argmax()]}"
    assert table["Probability"][1] == pytest.approx(best.max(), abs=1e-5)
    assert "Foreign: unlike anything it was trained on." in text_of(app)


def test_the_verdict_needs_no_images(dashboard: Open, strange_run: Run, tiny: Tiny, cache: Any) -> None:
    path = job.strangeness_task(strange_run, "best", tiny.info)[0].path / "strangeness.npz"
    kept = Strangeness.load(path)
    path.write_bytes(replace(kept, validation=kept.validation - 1e6).content())
    for data in cache.iterdir():
        data.rename(data.with_name(f"gone-{data.name}"))
    app = opened(dashboard, FOREIGN, **PHOTO)
    app = upload(app, "page.png", file_of(Image.new("RGB", (90, 90)), "PNG"))
    assert text_of(app).count("Unlike anything it was trained on") == 2


def test_erased_squares_move_the_answer(dashboard: Open, trained_run: Run, tiny: Tiny) -> None:
    app = opened(dashboard, ERASER, {"squares": ["A1", "C4", "D4"]}, image="4")
    split = open_cached(tiny.info.id, tiny.cache).test
    network = load_network(trained_run.checkpoints()["best"])
    squares = np.zeros((8, 8), bool)
    squares[0, 0] = squares[3, 2] = squares[3, 3] = True
    changed = erase(np.array(split.images[4]), squares, "erase", network.mean)
    expected = network.probabilities(changed[None])[0].numpy()
    assert f"{network.classes[int(expected.argmax())]}" in next(iter(bars(app)))
    assert f"{expected.max():.1%}" in text_of(app) or expected.max() > 0.999
    next(button for button in app.button if button.label == "Take all back").click().run()
    assert app.session_state["squares"] == []


def test_the_smallest_erasure_changes_the_answer(dashboard: Open, trained_run: Run, tiny: Tiny) -> None:
    app = opened(dashboard, ERASER, image="4")
    before = next(iter(bars(app)))
    button = next(button for button in app.button if button.label.startswith("Smallest erasure"))
    button.click().run()
    assert not app.exception, app.exception
    text = text_of(app)
    assert "found greedily" in text
    assert "The answer is now" in text
    assert f"no longer {before}" in text
    assert 1 <= len(app.session_state["squares"]) < 64


@pytest.mark.parametrize(
    "pictures", [[Image.new("RGB", (64, 32))], np.zeros((1, 3, 32, 64), np.uint8)], ids=["pictures", "pixels"]
)
def test_pictures_in_a_row_keep_their_shape(pictures: Any) -> None:
    assert 'width="168" height="84"' in charts.gallery(pictures, ["a map"], ["a map of a picture"], 84)


def test_one_measure_of_two_settles_nothing() -> None:
    assert explaining.doubts(False, False) == ""
    assert "the answer does not hang on what it marks" in explaining.doubts(True, True)
    assert explaining.doubts(False, True).startswith("By insertion, this map is hardly better")
    assert "by insertion it is better. The two disagree" in explaining.doubts(True, False)


@pytest.mark.parametrize(
    ("correlation", "said", "suspect"),
    [
        (float("nan"), "empty or flat", False),
        (0.29, "hardly anything of the map is left (rank correlation 0.29)", False),
        (0.31, "the map is still alike (rank correlation 0.31)", True),
        (-0.59, "the map is turned round (rank correlation -0.59)", True),
    ],
)
def test_a_map_of_new_weights_is_called_what_it_is(correlation: float, said: str, suspect: bool) -> None:
    told, is_suspect = explaining.left_over(correlation)
    assert said in told
    assert is_suspect is suspect
