# A clone and Python 3.11 or newer are all that these need; each makes the virtual environment itself.
#
#   make demo        the main job from nothing, on data that it makes: about 5 minutes on 2 cores after the installation
#   make test        the test suite
#   make test-slow   the long proofs: clusters, kills, real clips
#   make gpu-check   on a machine with a GPU: the tests that need one, and a table of speeds beside the goals
#   make lint        ruff, mypy --strict, import-linter, the docs built strictly
#   make format      ruff's fixes and formatting; the layout in README.md, made anew
#   make docs        the site of the docs, in build/site
#   make wheel       the distribution
#   make venv        the virtual environment alone
#   make clean       removes what these made, but not the environment

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
# More than processors: a test often waits, for a cluster, a time limit or a process of its own.
TEST_PROCESSES ?= 3
BIN := $(VENV)/bin
# Dead links and documented arguments that do not exist are errors. The variable hides an advertisement for a successor.
BUILD_DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.DELETE_ON_ERROR:
.PHONY: demo test test-slow gpu-check lint format docs wheel venv clean

venv: $(VENV)/installed

# constraints.txt holds the exact versions that CI ran. Torch first: it alone decides which build the others find.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else None'
	@echo "installing the packages into $(VENV), which takes some minutes and prints nothing more"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

demo: venv
	@PATH="$(abspath $(BIN)):$$PATH" bash demo.sh $(DEMO)

test: venv
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_PROCESSES) --durations=15 $(PYTEST_OPTIONS)

test-slow: venv
	$(BIN)/python -m pytest -m slow -n $(TEST_PROCESSES) --durations=15 $(PYTEST_OPTIONS)

gpu-check: venv
	$(BIN)/python -m pytest -m gpu $(PYTEST_OPTIONS); tests=$$?; \
	$(BIN)/python benchmarks/gpu.py --out build/gpu && exit $$tests

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BUILD_DOCS)

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/layout.py --write

docs: venv
	$(BUILD_DOCS)

wheel: venv
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(DEMO) build dist *.egg-info
