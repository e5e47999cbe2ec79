"""Imports point one way: dashboard -> pages -> pages/ui -> cifar_core; and what must open fast imports nothing slow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

CORE = sorted((ROOT / "cifar_core").rglob("*.py"))
UI = sorted((ROOT / "pages" / "ui").rglob("*.py"))
PAGES = sorted((ROOT / "pages").glob("*.py"))

SLOW = ("torch", "torchvision", "sklearn", "openTSNE", "plotly")
WITHOUT_TORCH = (
    "config",
    "events",
    "runs",
    "schedules",
    "series",
    "suggestions",
    "subsets",
    "coach",
    "board",
    "sources",
    "datasets",
    "photos",
    "evaluation",
    "logits",
    "comparing",
    "reporting",
    "robustness",
    "features",
    "umap",
    "selections",
    "familiarity",
    "strangeness",
    "erasing",
    "fetching",
    "job",
    "__main__",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"


def _nodes(body: list[ast.stmt], inside_functions: bool) -> Iterator[ast.stmt]:
    """Statements that are executed on import, and those in functions if asked."""
    for node in body:
        if _only_for_types(node):
            continue
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        for part in ("body", "orelse", "finalbody"):
            yield from _nodes(getattr(node, part, []), inside_functions)
        for handler in getattr(node, "handlers", []):
            yield from _nodes(handler.body, inside_functions)
        for case in getattr(node, "cases", []):
            yield from _nodes(case.body, inside_functions)


def imports_of(source: str, package: str, inside_functions: bool = True) -> set[str]:
    """Whole names of what is imported; `from a import b` counts as both `a` and `a.b`."""
    found = set()
    for node in _nodes(ast.parse(source).body, inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def imported(path: Path, inside_functions: bool = True) -> set[str]:
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports_of(path.read_text("utf-8"), package, inside_functions)


def uses(names: set[str], *modules: str) -> set[str]:
    """Those of the names that are one of the modules or lie in one."""
    return {name for name in names for module in modules if name == module or name.startswith(module + ".")}


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def test_imports_are_found_wherever_they_are() -> None:
    source = """
import a.b
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import only_types
try:
    from c import d
except ImportError:
    import e
def f():
    import g
    class H:
        def i(self):
            with j:
                from . import k
                from ..l import m
match n:
    case 1:
        import o
"""
    at_the_top = {"a.b", "typing", "typing.TYPE_CHECKING", "c", "c.d", "e", "o"}
    assert imports_of(source, "p.q", inside_functions=False) == at_the_top
    assert imports_of(source, "p.q") == at_the_top | {"g", "p.q", "p.q.k", "p.l", "p.l.m"}


def test_there_is_something_to_look_at() -> None:
    assert {"config.py", "job.py", "__main__.py"} <= {path.name for path in CORE}
    assert {"__init__.py", "charts.py", "loaders.py"} <= {path.name for path in UI}
    assert len(PAGES) >= 8


@each(CORE)
def test_the_core_knows_neither_pages_nor_streamlit_nor_plotting(path: Path) -> None:
    assert not uses(imported(path), "pages", "dashboard", "streamlit", "plotly", "altair", "matplotlib", "tests")


@each(UI)
def test_what_pages_share_knows_no_page(path: Path) -> None:
    names = {module_name(page) for page in PAGES}
    assert not uses(imported(path), "dashboard", *names)


@each(PAGES)
def test_a_page_knows_no_other_page(path: Path) -> None:
    others = {module_name(page) for page in PAGES if page != path}
    assert not uses(imported(path), "dashboard", *others)


def test_the_dashboard_knows_only_the_pages() -> None:
    names = imported(ROOT / "dashboard.py")
    assert not uses(names, "cifar_core")
    assert uses(names, "pages")


@each([path for path in UI if path.name == "charts.py"])
def test_charts_know_no_streamlit(path: Path) -> None:
    assert not uses(imported(path), "streamlit", "pages.ui.loaders")


@each([*PAGES, *UI, ROOT / "dashboard.py"])
def test_no_page_imports_torch_before_it_computes(path: Path) -> None:
    assert not uses(imported(path, inside_functions=False), "torch", "torchvision")


def core(name: str) -> Path:
    return ROOT / "cifar_core" / f"{name}.py"


def test_training_and_what_looks_at_networks_do_not_know_runs() -> None:
    for name in (
        "training",
        "evaluation",
        "features",
        "explain",
        "trust",
        "familiarity",
        "strangeness",
        "erasing",
        "fetching",
        "networks",
        "transforms",
        "compute",
        "datasets",
        "watching",
        "distributed",
    ):
        assert not uses(imported(core(name)), "cifar_core.runs", "cifar_core.job"), name


def test_only_the_job_joins_runs_and_training() -> None:
    joining = [
        module_name(path)
        for path in [*CORE, *PAGES, *UI]
        if uses(imported(path), "cifar_core.runs") and uses(imported(path), "cifar_core.training")
    ]
    assert joining == ["cifar_core.job"]


def test_runs_and_settings_know_nothing_of_what_is_done_with_them() -> None:
    allowed = {
        "config": set(),
        "events": set(),
        "runs": {"cifar_core.config", "cifar_core.events"},
        "schedules": {"cifar_core.config"},
    }
    for name, known in allowed.items():
        modules = {other for other in uses(imported(core(name)), "cifar_core") if other != "cifar_core"}
        assert not {other for other in modules if not uses({other}, *known)}, name


def test_imports_of_the_core_make_no_circle() -> None:
    """At the top level; within a package its `__init__` and its parts may know each other."""
    names = {module_name(path): path for path in CORE}
    known = {
        name: {other for other in names if other != name and other in imported(path, inside_functions=False)}
        for name, path in names.items()
        if not name.startswith("cifar_core.models")
    }
    left = dict(known)
    while ready := [name for name, others in left.items() if not others & left.keys()]:
        for name in ready:
            del left[name]
    assert not left


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_torch_is_not_imported_at_the_top_of(name: str) -> None:
    assert not uses(imported(core(name), inside_functions=False), *SLOW)


def newly_imported(statement: str) -> set[str]:
    """Modules that a fresh interpreter holds after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules), sep=chr(10))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_fresh_interpreter_stays_without_torch() -> None:
    """The sources could still reach torch in a roundabout way."""
    statement = "\n".join(f"import cifar_core.{name}" for name in WITHOUT_TORCH)
    modules = newly_imported(statement)
    assert {f"cifar_core.{name}" for name in WITHOUT_TORCH} <= modules
    assert not modules & set(SLOW)
    assert "torch" in newly_imported("import cifar_core.compute"), "the look would not notice torch"


def test_settings_events_and_runs_import_nothing_that_is_not_pythons() -> None:
    """So that a run can be looked at anywhere, at once."""
    modules = newly_imported("import cifar_core.config, cifar_core.events, cifar_core.runs, cifar_core.schedules")
    foreign = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"cifar_core", "__main__"}
    plain = {name.partition(".")[0] for name in newly_imported("pass")}
    assert not foreign - plain


def test_nothing_is_made_float64_before_it_is_on_the_cpu() -> None:
    """Apple's GPUs have no float64."""
    core = (ROOT / "cifar_core").rglob("*.py")
    assert not [path.name for path in core if ".double().cpu()" in path.read_text("utf-8")]


def test_a_fresh_interpreter_stays_without_torch_after_what_pages_share() -> None:
    assert "torch" not in newly_imported("\n".join(f"import {module_name(path)}" for path in UI))
