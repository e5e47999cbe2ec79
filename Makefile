# `make run` and `make test` set everything up by themselves; see the README.
PYTHON ?= python3
# Where the images are; left out, the Data page offers what there is.
DATA ?=
BIN := .venv/bin

.PHONY: run test check format bench speed maps reference kills first-minute screenshots clean

run: .venv/.run
	$(BIN)/streamlit run dashboard.py $(if $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname)),,--server.headless true) $(if $(DATA),-- --data "$(DATA)")

test: .venv/.test
	$(BIN)/pytest

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.test
	$(BIN)/python -m benchmarks.augment
	$(BIN)/python -m benchmarks.dashboard $(if $(DATA),--data "$(DATA)")
	$(if $(DATA),$(BIN)/python -m benchmarks.speed --data "$(DATA)")

# What needs CIFAR-10 says so where it is not named.
speed reference: named = $(if $(DATA),,$(error Name CIFAR-10, e.g. make $@ DATA=path/to/cifar-10-python.tar.gz))

speed: .venv/.test
	$(named)
	$(BIN)/python -m benchmarks.speed --data "$(DATA)"

maps: .venv/.test
	$(BIN)/python -m benchmarks.maps --umap

# Trains the network that comes with the program again, and puts it in its place; DATA is CIFAR-10.
reference: .venv/.test
	$(named)
	$(BIN)/python -m benchmarks.reference --data "$(DATA)"

kills: .venv/.test
	$(BIN)/python -m benchmarks.kills $(if $(DATA),--data "$(DATA)")

# From an empty folder to the first page, heat map and training; the figures go into the README.
first-minute: .venv/.test
	$(BIN)/python -m benchmarks.first_minute --write

# All pictures of the README, in a headless Chromium.
screenshots: .venv/.test
	$(BIN)/python -m benchmarks.screenshots

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/.run: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/.test: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ .venv/.run
