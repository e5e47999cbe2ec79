"""No visitor ever sees a photo of another: it is in no cache that visitors share, in no address and in no file."""

from __future__ import annotations

import ast
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cifar_core.runs import Run
from tests.conftest import ROOT

PAGE = "pages/explain.py"
PHOTO = {"source": "Your photo"}

OF_A_PICTURE = {"pixels", "picture", "photo", "content"}
"""How parameters are called that may come of a photo; with an underscore before, Streamlit does not look at them."""

OF_DATA_SETS_ALONE = {"heat_pairs", "answers", "_turned", "_corrupted_pictures"}
"""Functions of the pages Augment and Evaluate, which know no photos."""


def cached_functions() -> Iterator[tuple[str, ast.FunctionDef, ast.expr]]:
    for path in sorted((ROOT / "pages").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if "st.cache_" in ast.unparse(decorator):
                        yield f"{path.name}: {node.name}", node, decorator


def test_every_cache_of_what_comes_of_a_photo_is_of_one_session() -> None:
    checked = []
    for name, function, decorator in cached_functions():
        arguments = {argument.arg.lstrip("_") for argument in function.args.args}
        if arguments & OF_A_PICTURE and function.name not in OF_DATA_SETS_ALONE:
            assert "scope='session'" in ast.unparse(decorator), f"{name} is kept for all visitors"
            checked.append(function.name)
    assert {"decoded", "views", "small", "said_of", "said_of_looks", "heat_map", "overlay"} <= set(checked)


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def photo(colour: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (64, 48), colour)
    picture.paste("white", (8, 8, 24, 30))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def visitor(dashboard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Open the page as a visitor with a session of their own; the test runner gives all the same one."""
    from streamlit.testing.v1 import local_script_runner

    plain = local_script_runner.LocalScriptRunner.__init__

    def open_page(name: str) -> Any:
        def named(self: Any, *args: Any, **kwargs: Any) -> None:
            plain(self, *args, **kwargs)
            self._session_id = name

        monkeypatch.setattr(local_script_runner.LocalScriptRunner, "__init__", named)
        return dashboard(PAGE, **PHOTO)

    return open_page


def test_two_visitors_never_share_a_photo(
    visitor: Callable[[str], Any], trained_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pages.ui import photos

    read: list[tuple[str, str]] = []
    shown: list[tuple[str, bytes]] = []
    plain, plain_read = DeltaGenerator.image, photos.read_photo

    def whose() -> str:
        context = get_script_run_ctx()
        assert context
        return context.session_id

    def image(self: DeltaGenerator, content: bytes, *args: Any, **how: Any) -> Any:
        shown.append((whose(), content))
        return plain(self, content, *args, **how)

    def read_photo(content: bytes, *args: Any) -> Image.Image:
        read.append((whose(), hashlib.sha256(content).hexdigest()))
        return plain_read(content, *args)

    monkeypatch.setattr(DeltaGenerator, "image", image)
    monkeypatch.setattr(st, "image", st._main.image)
    monkeypatch.setattr(photos, "read_photo", read_photo)
    first, second = photo("red"), photo("blue")
    before = files_below(tmp_path)

    anna = visitor("Anna")
    anna.file_uploader[0].upload("anna's.png", first).run()
    assert not anna.exception
    pictures_of_anna = {content for who, content in shown if who == "Anna"}
    ben = visitor("Ben")
    assert "kept_photos" not in ben.session_state
    assert "anna" not in "".join(element.value for kind in (ben.markdown, ben.caption) for element in kind)
    ben.file_uploader[0].upload("ben's.png", second).run()
    assert [upload.content for upload in ben.session_state["kept_photos"]] == [second]
    assert {"Anna", "Ben"} == {who for who, _ in shown}
    examples = {photos.examples.content(name) for name in photos.examples.ALL}
    assert not (pictures_of_anna - examples) & {content for who, content in shown if who == "Ben"}

    # The very same photo is read anew for another visitor: there is nothing that they share.
    carla = visitor("Carla")
    carla.file_uploader[0].upload("same.png", first).run()
    digest = hashlib.sha256(first).hexdigest()
    assert {who for who, which in read if which == digest} == {"Anna", "Carla"}

    # Nor is there a trace of it in an address or in a file.
    for app in (anna, ben, carla):
        assert set(app.query_params) <= {"source", "run", "fit", "checkpoint", "ranges"}
    assert files_below(tmp_path) == before
