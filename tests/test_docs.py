"""The README is true: what it names exists, and its tables follow the code."""

import re
import shlex
from pathlib import Path

import pytest

from cifar_core.__main__ import _parser
from cifar_core.config import FIELD_TYPES, FIELDS, RECIPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]


def settings_table() -> str:
    """The settings as a Markdown table, from the fields themselves."""
    rows = ["| Setting | Default | Allowed | What it does |", "| --- | --- | --- | --- |"]
    for name, field in FIELDS.items():
        about = field.metadata
        if about["choices"]:
            allowed = ", ".join(f"`{choice}`" for choice in about["choices"])
        elif FIELD_TYPES[name][0] is bool:
            allowed = "on, off"
        elif about["low"] is None:
            allowed = {"data": "a path", "classes": "names"}.get(name, "a selection")
        else:
            allowed = f"from {about['low']:g}" + ("" if about["high"] is None else f" to {about['high']:.10g}")
            allowed += f" {about['unit']}".rstrip()
        default = "–" if field.default in ("", None) else f"`{field.default}`"
        rows.append(f"| `{name}` | {default} | {allowed} | {about['help']} |")
    return "\n".join(rows)


def test_the_readme_starts_with_a_picture_and_the_two_commands():
    picture = re.search(r"!\[(.{20,})\]\((\S+)\)", README)
    assert picture, "no picture with a description"
    assert (ROOT / picture[2]).read_bytes().startswith(b"\x89PNG")
    assert README.index(picture[0]) < README.index("make run") < README.index("make test") < README.index("## ")


def test_the_make_commands_of_the_readme_are_targets():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)\b(?!=)", README)) - {"it"}
    assert {"run", "test"} <= named <= targets | {"all"}


def test_the_plain_commands_do_what_make_does():
    makefile = (ROOT / "Makefile").read_text()
    for line in (
        "pip install -r requirements.txt",
        "streamlit run dashboard.py",
        "pip install -r requirements-dev.txt",
        "pytest",
    ):
        assert line in LINES
        program = line.split()[0]
        assert re.search(rf"(\$\(BIN\)/|-m ){program}", makefile), f"make does not use {program}"


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("python -m cifar_core")])
def test_every_command_of_the_readme_is_understood(line):
    options = _parser().parse_args(shlex.split(line)[3:])
    assert callable(options.command)


TOGETHER = [
    line[line.index("-m cifar_core") :]
    for line in "\n".join(BLOCKS).replace("\\\n", " ").splitlines()
    if "torchrun" in line and "-m cifar_core" in line
]


@pytest.mark.parametrize("line", TOGETHER)
def test_what_torchrun_starts_in_the_readme_is_understood(line):
    options = _parser().parse_args(shlex.split(line)[2:])
    assert options.command.__name__ == "_train"


def test_the_readme_tells_how_to_train_on_one_machine_and_on_several():
    assert len(TOGETHER) >= 3


def test_the_recipes_of_the_readme_are_those_of_the_program():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README, flags=re.MULTILINE)
    named = {name: model for name, model in rows if name in RECIPES and model in FIELDS["model"].metadata["choices"]}
    assert named == {name: recipe.settings.get("model", FIELDS["model"].default) for name, recipe in RECIPES.items()}


def test_the_settings_of_the_readme_are_those_of_the_program():
    written = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README, flags=re.DOTALL)
    assert written
    assert written[1] == settings_table()


def test_the_files_the_readme_names_exist():
    for name in re.findall(r"`([\w./-]+(?:\.py|/))`", README):
        if name.startswith(("runs/", "data/", "cifar-10-")):
            continue
        assert (ROOT / name).exists(), f"the README names {name}"


def test_no_source_folder_is_ignored_by_git():
    patterns = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line and not line.startswith("#")]
    folders = {"pages", "cifar_core", "tests", "benchmarks", "docs", "ui", "models", "browser"}
    for pattern in patterns:
        assert pattern.strip("/") not in folders
        assert pattern.startswith("/") or pattern in ("__pycache__/", "*.pyc"), f"{pattern} would match in any folder"
