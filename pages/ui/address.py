"""Settings in the address of a page: those that differ from a recipe, as `lr:0.1,epochs:3`; without Streamlit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from cifar_core.config import FIELD_TYPES, TrainConfig, nearest
from cifar_core.subsets import class_names

SHORT = {"learning_rate": "lr"}
"""What is changed most is written as people write it; its full name is read too."""

_LONG = {short: name for name, short in SHORT.items()}

_LARGEST = 2**53
"""A browser knows no whole numbers beyond."""


def written(values: Mapping[str, Any], base: TrainConfig) -> str:
    """The settings that differ from those of `base`; empty where none does. The data set has a name of its own."""
    return listed({name: value for name, value in values.items() if name != "data" and value != getattr(base, name)})


def listed(values: Mapping[str, Any]) -> str:
    """All of some settings, each with its value."""
    return ",".join(f"{SHORT.get(name, name)}:{_text(value)}" for name, value in values.items())


def named(text: str) -> tuple[dict[str, Any], list[str]]:
    """The settings that `listed` wrote, and no others; what does not fit is left out as by `read`."""
    _, found, refused = _fitting(text, TrainConfig())
    return found, refused


def read(text: str, base: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """What `written` wrote, put into `base`; whatever does not fit is left out, and why is said in sentences."""
    config, _, refused = _fitting(text, base)
    return config, refused


def _fitting(text: str, base: TrainConfig) -> tuple[TrainConfig, dict[str, Any], list[str]]:
    """`base` with the settings that fit, these alone, and why others do not."""
    config = base
    found, refused = _parsed(text)
    try:
        return dataclasses.replace(base, **found), found, refused
    except ValueError:
        # One after the other, so that a bad one is left out alone.
        fit = {}
        for name, value in found.items():
            try:
                config = dataclasses.replace(config, **{name: value})
            except ValueError as error:
                refused.append(str(error))
            else:
                fit[name] = value
    return config, fit, refused


def _parsed(text: str) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    refused: list[str] = []
    for part in filter(None, text.split(",")):
        short, _, value = part.partition(":")
        name = _LONG.get(short, short)
        try:
            found[name] = _value(name, unquote(value))
        except ValueError as error:
            refused.append(str(error))
    return found, refused


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value).removesuffix(".0") if isinstance(value, float) else quote(str(value), safe=" ")


def _value(name: str, text: str) -> Any:
    if name not in FIELD_TYPES or name == "data":
        raise ValueError(f"There is no setting {name[:40]!r}{nearest(name[:40], FIELD_TYPES)}")
    plain = FIELD_TYPES[name][0]
    if plain is str:
        if name == "classes":
            class_names(text)
        return text
    if plain is bool:
        if text not in ("yes", "no"):
            raise ValueError(f"{name} must be yes or no, but is {text[:40]!r}.")
        return text == "yes"
    try:
        number = plain(text)
    except ValueError:
        what = "whole number" if plain is int else "number"
        raise ValueError(f"{name} must be a {what}, but is {text[:40]!r}.") from None
    if plain is int and abs(number) > _LARGEST:
        raise ValueError(f"{name} is too large: {text[:40]}.")
    return number
