# Each target does all of its own set-up: `make demo` or `make test` in a fresh clone is enough.
SHELL := bash
STACK ?= openmmlab
VENV ?= .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))
RUN := $(VENV)/bin/python
export STACK VENV

.PHONY: help setup demo test test-fast test-slow test-all test-smaller pins lint docs clean

help:
	@echo "make demo   compose scenes, train Semantic FPN on PVT-Tiny with SPM, evaluate, draw"
	@echo "make test   run the tests but those marked slow; make test-slow runs these, make test-all both"
	@echo "make test-fast  run a sample of the tests, while you develop"
	@echo "make lint   check style and formatting"
	@echo "make docs   build the documentation site into site/"
	@echo "make setup  the environment alone"
	@echo "make pins   solve the versions in requirements/ anew"
	@echo "make clean  remove the environments and what was built and run"
	@echo "PYTHON=, MMCV=, STACK=, VENV= with any of them: see the head of tools/setup.sh"

setup:
	@tools/setup.sh

demo: setup
	@$(RUN) tools/demo.py

# One thread a process: the tests' models are too small for more. Compiled Python files are kept, since many tests
# start a process.
MARKED := not slow
# What the forks and the oldest Python run.
SMALLER_SET := $(wildcard tests/test_*.py) tests/heads tests/mmcv_ops \
	$(patsubst %,tests/engine/test_%.py,hooks checkpoints amp compile) \
	$(patsubst %,tests/tools/test_%.py,train doctor)
PYTEST_ARGS ?= $(if $(filter onedl,$(STACK)),$(SMALLER_SET))

test: setup
	@[ $(STACK) = onedl ] || [ ! -x $(VENV)/bin/uv ] || \
		$(VENV)/bin/uv pip install --quiet --python $(RUN) --no-deps --requirement requirements/test.txt
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile -m "$(MARKED)" \
		$(PYTEST_ARGS)

# While developing. The counts and the failures alone are shown.
test-fast:
	@$(MAKE) --no-print-directory test MARKED="not (slow or launch or parity or tools or gpu)" \
		PYTEST_ARGS="--sample 1 --quiet --no-header --disable-warnings -r fE $(PYTEST_ARGS)"

test-slow:
	@$(MAKE) --no-print-directory test MARKED="slow"

test-all:
	@$(MAKE) --no-print-directory test MARKED="slow or not slow"

test-smaller:
	@$(MAKE) --no-print-directory test PYTEST_ARGS="$(SMALLER_SET)"

# Pins for every Python that is supported: `make pins` after a change of a requirements/*.in.
COMPILE := pip compile --quiet --universal --python-version 3.10 --override requirements/override.in \
	--no-emit-package opencv-python --no-binary onedl-mmcv --no-annotate --no-header
pins: setup
	@for name in openmmlab onedl docs "test --constraint requirements/openmmlab.txt"; do \
		set -- $$name && MMCV_WITH_OPS=0 $(VENV)/bin/uv $(COMPILE) "$${@:2}" \
			--output-file "requirements/$$1.txt" "requirements/$$1.in"; \
	done

lint: setup
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

# Reads the sources and imports nothing of them, so its environment holds no torch.
DOCS_VENV ?= .venv-docs
docs: $(DOCS_VENV)/bin/mkdocs
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --quiet --strict
	@echo "open site/index.html"

$(DOCS_VENV)/bin/mkdocs: requirements/docs.txt
	@$(if $(wildcard $(RUN)),$(RUN),python3) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/docs.txt
	@touch $@

clean:
	rm -rf .venv .venv-* work_dirs build dist site *.egg-info
