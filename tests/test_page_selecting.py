"""The one selection of the dashboard: filled on a page, shown, handed on, kept, combined and let go."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_core import job, logits
from cifar_core.evaluation import Evaluation
from cifar_core.invariance import VIEWS, Views
from cifar_core.selections import Selection, find, folder_of, forget, keep, kept, refer
from pages import ui
from pages.ui import loaders
from tests.conftest import Tiny
from tests.test_page_data import PAGE, press, sheets, texts


@pytest.fixture
def selected(tiny: Tiny, cache: Path) -> Callable[..., str]:
    """The text of a selection of the tiny data set, kept under a name if one is given."""

    def make(indices: Any, split: str = "train", about: str = "by hand", name: str = "") -> str:
        chosen = Selection(tiny.info.fingerprint, split, np.array(indices), about)
        folder = folder_of(cache)
        return refer(keep(chosen, name, folder) if name else chosen, folder)

    return make


def shown_indices(app: Any) -> list[int]:
    return sorted(int(caption.split()[1]) for caption in sheets(app)[0]["captions"])


def test_the_selection_of_the_url_is_said_and_the_gallery_follows_it(
    dashboard: Callable[..., Any], selected: Callable[..., str]
) -> None:
    app = dashboard(PAGE, selection=selected([3, 70, 150]))
    assert "**3** of 180 training images" in texts(app)
    assert shown_indices(app) == [3, 70, 150]
    app.toggle(key="follow").set_value(False).run()
    assert len(shown_indices(app)) == 180


def test_a_selection_of_test_images_shows_the_test_split(
    dashboard: Callable[..., Any], selected: Callable[..., str]
) -> None:
    app = dashboard(PAGE, selection=selected(range(30), "test"))
    assert shown_indices(app) == list(range(30))
    assert app.query_params["selection"] == selected(range(30), "test")


@pytest.mark.parametrize("view", ["Images", "Pixels", "Preprocessing", None])
def test_where_the_other_split_is_shown_it_is_said_that_the_selection_does_not_apply(
    dashboard: Callable[..., Any], selected: Callable[..., str], view: str | None
) -> None:
    asked = {"view": view} if view else {}
    app = dashboard(PAGE if view else "pages/augment.py", selection=selected([3, 70, 150]), **asked)
    said = "The selection is of training images and does not apply here: these are all test images."
    assert said not in texts(app)
    app.segmented_control(key="split").set_value("test").run()
    assert said in texts(app)
    press(app, "Show the training images")
    assert said not in texts(app)
    assert app.segmented_control(key="split").value == "train"


def test_the_pixels_are_those_of_the_selected_images(
    dashboard: Callable[..., Any], selected: Callable[..., str]
) -> None:
    app = dashboard(PAGE, selection=selected([3, 70, 150]), view="Pixels")
    assert "over the 3 selected training images" in texts(app)


def test_a_selection_can_be_inverted_and_cleared(dashboard: Callable[..., Any], selected: Callable[..., str]) -> None:
    app = dashboard(PAGE, selection=selected(range(170)))
    app.button(key="selection-invert").click().run()
    assert shown_indices(app) == list(range(170, 180))
    app.button(key="selection-clear").click().run()
    assert "selection" not in app.query_params
    assert len(shown_indices(app)) == 180


def name_field(app: Any) -> Any:
    return next(field for field in app.text_input if field.label == "Name")


def test_each_selection_is_proposed_a_name_of_its_own(dashboard: Callable[..., Any], tiny: Tiny, cache: Path) -> None:
    """Or the second one would take the place of the first."""
    one, two = (
        refer(Selection(tiny.info.fingerprint, "train", np.array(indices), about), folder_of(cache))
        for indices, about in ((range(40), "class circle"), (range(60, 110), "class square"))
    )
    app = dashboard(PAGE, selection=one)
    assert name_field(app).value == "class-circle"
    press(app, "Keep under this name")
    app.query_params["selection"] = two
    app.run()
    assert name_field(app).value == "class-square"
    press(app, "Keep under this name")
    assert {each.name: each.indices.tolist() for each in kept(tiny.info.fingerprint, folder_of(cache))} == {
        "class-circle": list(range(40)), "class-square": list(range(60, 110))
    }  # fmt: skip


def test_a_name_is_told_as_soon_as_it_is_given_and_no_longer_than_it_holds(tiny: Tiny, cache: Path) -> None:
    folder, fingerprint = folder_of(cache), tiny.info.fingerprint
    first = Selection(fingerprint, "train", np.arange(40), "class cat")
    text = refer(first, folder)
    assert loaders.selection(text, fingerprint, folder).name == ""
    kept_first = keep(first, "class-cat", folder)
    assert refer(kept_first, folder) == text
    assert loaders.selection(text, fingerprint, folder).name == "class-cat"
    keep(Selection(fingerprint, "train", np.array([1, 2, 4]), "others"), "class-cat", folder)
    assert loaders.selection(text, fingerprint, folder).name == "", "the name is of other images now"
    assert loaders.selection(text, fingerprint, folder).indices.tolist() == list(range(40))
    assert loaders.selection("class-cat", fingerprint, folder).indices.tolist() == [1, 2, 4]
    forget("class-cat", fingerprint, folder)
    assert loaders.selection(text, fingerprint, folder).name == ""


def test_a_selection_is_kept_under_a_name_and_opened_again(
    dashboard: Callable[..., Any], selected: Callable[..., str], tiny: Tiny, cache: Path
) -> None:
    app = dashboard(PAGE, selection=selected([3, 70]))
    name_field(app).set_value("odd-ones")
    press(app, "Keep under this name")
    assert [(one.name, one.indices.tolist()) for one in kept(tiny.info.fingerprint, folder_of(cache))] == [
        ("odd-ones", [3, 70])
    ]
    assert app.query_params["selection"].startswith("odd-ones.")
    again = dashboard(PAGE)
    again.button(key="selection-open").click().run()
    assert shown_indices(again) == [3, 70]


def test_a_bad_name_gets_one_sentence(dashboard: Callable[..., Any], selected: Callable[..., str]) -> None:
    app = dashboard(PAGE, selection=selected([3, 70]))
    name_field(app).set_value("Odd *ones*")
    press(app, "Keep under this name")
    assert "small letters" in app.error[0].value


def test_a_kept_selection_is_combined_with_the_present_one(
    dashboard: Callable[..., Any], selected: Callable[..., str], tiny: Tiny, cache: Path
) -> None:
    selected([70, 71], name="others")
    app = dashboard(PAGE, selection=selected([3, 70]))
    app.segmented_control(key="selection-way").set_value("minus").run()
    app.button(key="selection-combine").click().run()
    assert shown_indices(app) == [3]


def test_a_selection_of_another_data_set_is_said_to_be_none_and_can_be_cleared(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, selection="train.00000000.1")
    assert "is of another data set" in texts(app)
    assert len(shown_indices(app)) == 180
    app.button(key="selection-clear").click().run()
    assert "selection" not in app.query_params


def test_a_selection_beyond_the_split_is_none(dashboard: Callable[..., Any], selected: Callable[..., str]) -> None:
    app = dashboard(PAGE, selection=selected([4000]))
    assert "names image 4000" in texts(app)


def test_links_hand_the_selection_on(dashboard: Callable[..., Any], selected: Callable[..., str]) -> None:
    text = selected([3, 70])
    app = dashboard(PAGE, selection=text)
    links = [link.proto for link in app.get("page_link")]
    assert links
    assert all(f"selection={text}" in link.query_string for link in links)


def test_images_are_numbered_as_in_the_whole_split_whatever_classes_a_run_knows(tiny: Tiny) -> None:
    from cifar_core.datasets import open_cached
    from pages.ui import loaders

    data = open_cached(tiny.info.id, tiny.cache)
    classes = ("circle", "stripes")
    test = loaders.test_split(tiny.info.id, tiny.info.fingerprint, tiny.cache, classes)
    whole = loaders.places(tiny.info.id, tiny.info.fingerprint, tiny.cache, "test", classes, np.array([0, 25, 39]))
    for ours, place in zip((0, 25, 39), whole, strict=True):
        np.testing.assert_array_equal(test.images[ours], data.test.images[place])
    assert ui.SPLITS["test"] == "test"


def test_a_link_by_name_is_pinned_when_it_is_opened(
    dashboard: Callable[..., Any], selected: Callable[..., str], tiny: Tiny, cache: Path
) -> None:
    pinned = selected([3, 70], name="odd-ones")
    for page in (PAGE, "pages/train.py"):
        app = dashboard(page, selection="odd-ones")
        assert app.query_params["selection"] == pinned
    forget("odd-ones", tiny.info.fingerprint, folder_of(cache))
    app = dashboard(PAGE, selection=pinned)
    assert shown_indices(app) == [3, 70]


@pytest.mark.parametrize("page", ["overview", "train", "compare", "explain"])
def test_pages_without_panels_that_follow_it_say_what_is_selected_and_let_go_of_it(
    dashboard: Callable[..., Any], selected: Callable[..., str], page: str
) -> None:
    app = dashboard(f"pages/{page}.py", selection=selected([3, 70]))
    assert "**2** of 180 training images" in texts(app)
    whole = page in ("compare", "explain")
    assert bool([button for button in app.button if button.key == "selection-invert"]) == whole
    app.button(key="selection-clear").click().run()
    assert "selection" not in app.query_params
    assert "selected" not in texts(app)


def test_what_another_selection_took_the_place_of_can_be_had_again(
    dashboard: Callable[..., Any], selected: Callable[..., str], tiny: Tiny, cache: Path
) -> None:
    first = selected([3, 70, 150])
    app = dashboard(PAGE, selection=first, picture="test.7")
    (menu,) = [menu.proto for menu in app.get("menu_button") if menu.proto.id.endswith("select-picture")]
    assert ["in place of the 3 training images" in option for option in menu.options] == [True, False]
    assert "holds images of one split" in menu.help
    selected(range(30), "test", name="others")
    app = dashboard(PAGE, selection=first)
    app.button(key="selection-open").click().run()
    assert "this one took the place of 3 training images" in texts(app)
    app.button(key="selection-back").click().run()
    assert app.query_params["selection"] == first
    assert shown_indices(app) == [3, 70, 150]


def test_the_selection_before_can_be_kept_when_images_of_the_other_split_are_selected(
    dashboard: Callable[..., Any], selected: Callable[..., str], tiny: Tiny, cache: Path
) -> None:
    from pages.ui import selecting

    before = Selection(tiny.info.fingerprint, "train", np.array([3, 70]), "by hand")
    dashboard(PAGE)
    selecting._keep_as_it_is(before)
    assert [(one.name, one.indices.tolist()) for one in kept(tiny.info.fingerprint, folder_of(cache))] == [
        ("by-hand", [3, 70])
    ]


def test_a_selection_made_in_a_part_of_a_page_draws_the_whole_page_anew(
    dashboard: Callable[..., Any], selected: Callable[..., str], tiny: Tiny
) -> None:
    """As where only a fragment ran: the bar above was drawn before the selection was there."""
    from streamlit.testing.v1 import AppTest

    def script(info, text):  # type: ignore[no-untyped-def]  # it is read as text, where no name is known
        import numpy as np
        import streamlit as st

        from pages.ui import looked, selecting

        selecting.bar(info)
        if st.session_state.setdefault("fragment", True):
            st.session_state["fragment"] = False
            st.query_params["selection"] = text
        pictures = looked.Pictures(None, np.arange(60), "test image", "test")
        looked.offer(info, pictures, np.array([5, 6]), "a lasso", "lasso")

    app = AppTest.from_function(script, args=(tiny.info, selected([1, 2, 3], "test")), default_timeout=60).run()
    assert not app.exception
    assert "**3** of 60 test images" in texts(app)


def test_a_page_offers_images_alone_or_beside_those_selected(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path
) -> None:
    from streamlit.testing.v1 import AppTest

    def script(info, indices):  # type: ignore[no-untyped-def]  # it is read as text, where no name is known
        from pages.ui import selecting

        selecting.offer(info, "test", indices, "a lasso", "lasso")

    def selected_after(app: Any) -> list[int]:
        text = app.query_params["selection"]
        text = text[0] if isinstance(text, list) else text
        return find(text, tiny.info.fingerprint, folder_of(cache)).indices.tolist()

    app = AppTest.from_function(script, args=(tiny.info, [5, 6]), default_timeout=60).run()
    assert not app.exception
    app.button(key="lasso").click().run()
    assert selected_after(app) == [5, 6]
    assert not [button for button in app.button if button.key == "lasso"], "now there are several ways"


def answered(run: Any, tiny: Tiny, wrong: Any) -> None:
    """Let a run be right about all test images but some, of which it says the next class."""
    labels = np.repeat(np.arange(3), 20)
    guesses = labels.copy()
    guesses[wrong] = (labels[wrong] + 1) % 3
    facts = {"run": run.id, "checkpoint": "best", "epoch": 2.0, "data": "shapes", "split": "test"}
    folder, _ = job.evaluation_task(run, "best", tiny.info)
    said = 0.9 * np.eye(3, dtype=np.float32)[guesses] + np.float32(0.1 / 3)
    Evaluation(labels, said, tiny.info.classes, {**facts, "fingerprint": tiny.info.fingerprint}).save(
        folder.path / "evaluation.npz"
    )


def test_all_of_an_evaluation_follows_the_selection(
    dashboard: Callable[..., Any], selected: Callable[..., str], trained_run: Any, tiny: Tiny
) -> None:
    answered(trained_run, tiny, [3, 25])
    text = selected([3, 4, 30, 31], "test")
    app = dashboard("pages/evaluate.py", run=trained_run.id, selection=text, true="circle")
    assert app.metric[0].value == "75.0%"
    said = texts(app).replace("\\", "")
    assert "the 4 selected of 60 images" in said
    assert "2 images of circle" in said
    assert "#25" not in "".join(element.proto.body for element in app.get("html"))
    assert "#3 circle" in "".join(element.proto.body for element in app.get("html"))
    assert app.selectbox(key="closer-mistakes").options == ["#3: circle → square"]
    app.toggle(key="follow").set_value(False).run()
    assert app.metric[0].value == "96.7%"


@pytest.mark.parametrize("view", ["Epoch by epoch", "Curves and calibration", "Image by image", "Flips and shifts"])
def test_every_view_of_an_evaluation_can_be_of_the_selected_images(
    dashboard: Callable[..., Any], selected: Callable[..., str], trained_run: Any, tiny: Tiny, view: str
) -> None:
    answered(trained_run, tiny, [3, 25])
    logits.begin(
        trained_run.logits("test"),
        logits.Images(np.repeat(np.arange(3), 20), np.arange(60), tiny.info.classes, {"data": "shapes"}),
    )
    for epoch in (1, 2):
        logits.keep(trained_run.logits("test"), epoch, np.random.default_rng(epoch).normal(size=(60, 3)))
    folder, _ = job.views_task(trained_run, "best", tiny.info)
    said = np.random.default_rng(0).normal(size=(len(VIEWS), 60, 3)).astype(np.float16)
    Views(np.repeat(np.arange(3), 20), said, tiny.info.classes, {}).save(folder.path / "views.npz")
    app = dashboard(
        "pages/evaluate.py", run=trained_run.id, view=view, selection=selected([3, 4, 5, 30, 31, 50], "test")
    )
    assert not app.exception
    story = "".join(element.proto.json for element in app.get("bidi_component"))
    assert re.search(r"\b6 (of 6 |selected |test )?", texts(app) + story)
    assert "selected" in texts(app).split("selected: by hand")[-1] + story or view == "Flips and shifts"


def test_what_a_part_of_the_page_selects_the_whole_page_follows(
    dashboard: Callable[..., Any], trained_run: Any, tiny: Tiny
) -> None:
    labels = np.repeat(np.arange(3), 20)
    images = logits.Images(labels, np.arange(60), tiny.info.classes, {"data": "shapes"})
    logits.begin(trained_run.logits("test"), images)
    said = 5 * np.eye(3)[labels]
    said[:4] = said[20]
    for epoch in (1, 2):
        logits.keep(trained_run.logits("test"), epoch, said)
    app = dashboard("pages/evaluate.py", run=trained_run.id, view="Image by image", group="Never learned")
    assert app.metric[0].value == "4"
    app.button(key="select-biography").click().run()
    assert "**4** of 60 test images" in texts(app)
    assert [metric.value for metric in app.metric][:2] == ["4", "0"]


def test_an_evaluation_of_none_of_the_selected_images_says_so(
    dashboard: Callable[..., Any], selected: Callable[..., str], trained_run: Any, tiny: Tiny
) -> None:
    answered(trained_run, tiny, [3])
    app = dashboard("pages/evaluate.py", run=trained_run.id, selection=selected([], "test"))
    assert "None of the selected images" in texts(app)
    app = dashboard("pages/evaluate.py", run=trained_run.id, selection=selected([3, 4], "train"))
    assert app.metric[0].value == "98.3%", "training images are none of the test images"


def test_the_augment_page_takes_its_images_from_the_selection(
    dashboard: Callable[..., Any], selected: Callable[..., str]
) -> None:
    app = dashboard("pages/augment.py", selection=selected([63, 70, 150]))
    assert app.number_input(key="image").value == 63
    for _ in range(5):
        press(app, "Another")
        assert app.number_input(key="image").value in (63, 70, 150)
    app.selectbox(key="class").set_value(0).run()
    assert "The selection has no image of circle" in texts(app)
    app.toggle(key="follow").set_value(False).run()
    assert app.number_input(key="image").value < 60, "circles are the first 60 images"
