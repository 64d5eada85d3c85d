# Each target does all of its own set-up: `make demo` or `make test` in a fresh clone is enough.
SHELL := bash
PYTHON := .venv/bin/python

.PHONY: help setup demo test lint clean

help:
	@echo "make demo   compose scenes, train Semantic FPN on PVT-Tiny with SPM, evaluate, draw"
	@echo "make test   run the tests"
	@echo "make lint   check style and formatting"
	@echo "make setup  the environment alone, in .venv"

setup:
	@tools/setup.sh

demo: setup
	@$(PYTHON) tools/demo.py

test: setup
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

lint: setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

clean:
	rm -rf .venv work_dirs build dist *.egg-info
