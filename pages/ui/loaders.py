"""What pages keep in memory between reruns, keyed by names and versions and never by big arrays.

A file's version is its modification time: a checkpoint that is written anew is loaded anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cifar_core.datasets import DataSet, open_cached
from cifar_core.evaluation import Evaluation

if TYPE_CHECKING:
    from cifar_core.networks import Network


def version(path: Path) -> int:
    """Changes whenever the file is written."""
    return path.stat().st_mtime_ns


@st.cache_resource(max_entries=4, show_spinner=False)
def data_set(data_id: str, fingerprint: str, cache: Path) -> DataSet:
    """The memory-mapped arrays of a data set; shared and read-only."""
    return open_cached(data_id, cache)


@st.cache_resource(max_entries=3, show_spinner="Loading the network")
def network(path: Path, version: int) -> Network:
    """A network in eval mode; shared by all visitors, so nobody may change it."""
    # torch takes seconds to import, which only a page that computes should pay for.
    from cifar_core.compute import choose
    from cifar_core.networks import load_network

    return load_network(path, choose("auto", "float32").device)


@st.cache_resource(max_entries=8, show_spinner=False)
def evaluation(path: Path, version: int) -> Evaluation:
    """A stored evaluation; shared and read-only."""
    return Evaluation.load(path)
