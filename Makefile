# Each target does all of its own set-up: `make demo` or `make test` in a fresh clone is enough.
SHELL := bash
STACK ?= openmmlab
PYTHON := .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))/bin/python
export STACK

.PHONY: help setup demo test lint clean

help:
	@echo "make demo   compose scenes, train Semantic FPN on PVT-Tiny with SPM, evaluate, draw"
	@echo "make test   run the tests"
	@echo "make lint   check style and formatting"
	@echo "make setup  the environment alone"
	@echo "make clean  remove the environments and what was built and run"
	@echo "STACK=onedl with any of them: the maintained forks of the hosts, in .venv-onedl"

setup:
	@tools/setup.sh

demo: setup
	@$(PYTHON) tools/demo.py

# One thread a process: the tests' models are too small for more. On the forks, a smaller set.
HOST_TESTS := $(wildcard tests/test_*.py) tests/engine tests/heads $(patsubst %,tests/tools/test_%.py,train doctor safe_loader)
PYTEST_ARGS ?= $(if $(filter onedl,$(STACK)),$(HOST_TESTS))

test: setup
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile $(PYTEST_ARGS)

lint: setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

clean:
	rm -rf .venv .venv-onedl work_dirs build dist *.egg-info
