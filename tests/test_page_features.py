"""The page Features: a map of the images by their features, and the images behind its points."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.runs import Run, WorkFolder, write_whole
from pages.ui import charts

PAGE = "pages/features.py"


def text_of(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def mapped(run: Run, info: Any, cache: Path, images: int = 60, perplexity: float = 59 / 3) -> WorkFolder:
    """Have the map made that the page asks for at first, in this process."""
    folder, task = job.map_task(run, "best", info, images, perplexity)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        list(job.execute_task(folder, cache))
    assert folder.last_end is not None
    assert folder.last_end.outcome == "finished", folder.last_end.message
    return folder


def traces(app: Any) -> list[dict[str, Any]]:
    """The traces of the map as the browser gets them, with their arrays decoded."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict) and "bdata" in value:
            return np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
        return value

    (chart,) = app.get("plotly_chart")
    return [{name: plain(value) for name, value in trace.items()} for trace in json.loads(chart.proto.spec)["data"]]


def select(app: Any, indices: list[int]) -> Any:
    """As if these test images had been selected; their numbers within traces are misleading on purpose."""
    points = [{"customdata": index, "point_index": 0, "curve_number": 0} for index in indices]
    key = next(name for name in app.session_state if str(name).startswith("map-"))
    app.session_state[key] = {"selection": {"points": points, "point_indices": [], "box": [], "lasso": []}}
    return app.run()


def gallery(app: Any) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Caption and pixels (3, H, W) of each image in the gallery."""
    page = "".join(element.proto.body for element in app.get("html"))
    found = re.findall(
        r'<img src="data:image/png;base64,([^"]+)".*?<figcaption[^>]*>(.*?)</figcaption>', page, re.DOTALL
    )
    return [
        (caption, np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).transpose(2, 0, 1))
        for data, caption in found
    ]


def test_without_runs_the_way_to_a_first_one_is_shown(dashboard: Callable[..., Any]) -> None:
    assert "No runs yet" in text_of(dashboard(PAGE))


@pytest.mark.parametrize("state", ["ready", "running", "failed", "interrupted"])
def test_runs_without_weights_are_not_offered(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run], state: str
) -> None:
    run_in_state(state)
    assert "No run has weights yet" in text_of(dashboard(PAGE))


def test_without_the_images_of_the_run_it_says_so(dashboard: Callable[..., Any], trained_run: Run, cache: Path) -> None:
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert "are not here" in text_of(dashboard(PAGE))


def test_a_map_is_only_computed_when_asked_for(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(job, "start_task", lambda folder, task, cache: asked.append(task))
    app = dashboard(PAGE, perplexity="10")
    assert not asked
    next(button for button in app.button if button.label == "Compute the map").click().run()
    assert not app.exception
    (task,) = asked
    assert (task["images"], task["perplexity"], task["checkpoint"]) == (60, 10.0, "best")
    assert (task["run"], task["data"]) == (str(trained_run.path), tiny.info.id)


def test_a_perplexity_beyond_what_the_images_allow_is_lowered_and_said(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    assert "With 60 images, 19.7 is the most" in text_of(dashboard(PAGE, perplexity="30"))
    assert "is the most" not in text_of(dashboard(PAGE, perplexity="15"))


def test_every_point_is_in_the_trace_of_its_class(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache)
    labels = open_cached(tiny.info.id, cache).test.labels
    found = traces(dashboard(PAGE))
    assert [trace["name"] for trace in found] == [f"{name} (20)" for name in tiny.info.classes]
    for place, trace in enumerate(found):
        assert set(labels[trace["customdata"]]) == {place}
        assert len(trace["x"]) == len(trace["y"]) == len(trace["customdata"]) == 20
        assert trace["x"].dtype == np.float32
    assert sorted(np.concatenate([trace["customdata"] for trace in found])) == list(range(60))
    assert len({trace["marker"]["symbol"] for trace in found}) == 3


def test_colours_by_correctness_part_right_from_wrong(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network

    mapped(trained_run, tiny.info, cache)
    split = open_cached(tiny.info.id, cache).test
    told = load_network(trained_run.checkpoints()["best"]).probabilities(split.images).argmax(1).numpy()
    right, wrong = traces(dashboard(PAGE, colour="Correctness"))
    assert right["name"] == f"Right ({(told == split.labels).sum()})"
    assert list(right["customdata"]) == list(np.flatnonzero(told == split.labels))
    assert list(wrong["customdata"]) == list(np.flatnonzero(told != split.labels))


def test_selecting_points_shows_the_images_of_exactly_those_points(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache)
    split = open_cached(tiny.info.id, cache).test
    app = dashboard(PAGE)
    assert "Select points on the map" in text_of(app)
    chosen = [41, 3, 20, 59]
    app = select(app, chosen)
    assert not app.exception
    shown = gallery(app)
    assert [caption.split(":")[0] for caption, _ in shown] == ["3", "20", "41", "59"]
    for (caption, pixels), index in zip(shown, sorted(chosen), strict=True):
        assert (pixels == split.images[index]).all()
        assert re.split(" ✓| → ", caption.split(": ")[1])[0] == tiny.info.classes[split.labels[index]]
    assert "4 of 60" in text_of(app).replace("*", "")
    (link,) = [link for link in app.get("page_link") if "look on test image" in link.proto.label]
    assert "image=3" in link.proto.query_string


def test_the_map_has_all_the_width_until_something_is_selected(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    def share(app: Any) -> float:
        return next(column.weight for column in app.columns if column.get("plotly_chart"))

    mapped(trained_run, tiny.info, cache)
    app = dashboard(PAGE)
    assert share(app) > 0.99
    assert share(select(app, [3, 5])) == pytest.approx(0.6)


def test_names_in_the_legend_are_as_they_are_and_not_too_long() -> None:
    names = ('"quoted"', "a<b>&c", "a very long name of a class that goes on and on")
    figure = charts.feature_map(
        np.zeros((3, 2), np.float32), np.arange(3), np.arange(3), np.arange(3), np.ones(3, np.float32), names, "class"
    )
    assert [trace.name for trace in figure.data[:2]] == ['"quoted" (1)', "a&lt;b&gt;&amp;c (1)"]
    assert len(figure.data[2].name) <= 20
    assert names[1].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in figure.data[1].text[0]


def test_one_selected_point_is_named(dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path) -> None:
    mapped(trained_run, tiny.info, cache)
    app = select(dashboard(PAGE), [17])
    assert len(gallery(app)) == 1
    assert "test image 17" in text_of(app)


def test_the_map_says_what_it_is(dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path) -> None:
    mapped(trained_run, tiny.info, cache)
    said = text_of(dashboard(PAGE))
    for fact in (trained_run.id, "best weights", "60 of 60 test images", tiny.info.name, "perplexity 19.7"):
        assert fact in said
    assert re.search(r"trustworthiness [01]\.\d{3}", said)


def test_the_figure_stays_the_same_so_that_a_rerun_keeps_the_selection(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache)
    app = dashboard(PAGE)
    (before,) = app.get("plotly_chart")
    before_spec, before_id = before.proto.spec, before.proto.id
    (after,) = app.run().get("plotly_chart")
    assert (after.proto.spec, after.proto.id) == (before_spec, before_id)


def test_a_damaged_map_can_be_computed_again(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    folder = mapped(trained_run, tiny.info, cache)
    (folder.path / "map.npz").write_bytes(b"PK no")
    app = dashboard(PAGE)
    assert "is damaged" in text_of(app)
    next(button for button in app.button if button.label == "Compute it again").click().run()
    assert not app.exception
    assert not (folder.path / "map.npz").exists()


def test_a_failed_map_says_why_and_can_be_tried_again(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    folder, task = job.map_task(trained_run, "best", tiny.info, 60, 59 / 3)
    write_whole(folder.path / "task.json", json.dumps({**task, "checkpoint": "none"}).encode())
    with folder.held():
        list(job.execute_task(folder, cache))
    app = dashboard(PAGE)
    assert "has no none checkpoint" in text_of(app)
    assert "Try again" in [button.label for button in app.button]
