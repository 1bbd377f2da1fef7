# A clone and Python 3.11 or newer are all that these need; each makes the virtual environment itself.
#
#   make demo        the main job from nothing, on data that it makes: about 5 minutes on 2 cores after the installation
#   make test        the test suite
#   make test-slow   the long proofs: clusters, kills, real clips
#   make lint        ruff, mypy --strict, import-linter
#   make wheel       the distribution

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin

.DELETE_ON_ERROR:
.PHONY: demo test test-slow lint wheel venv clean

venv: $(VENV)/installed

# constraints.txt holds the exact versions that CI ran. Torch first: it alone decides which build the others find.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: venv
	@PATH="$(abspath $(BIN)):$$PATH" bash demo.sh $(DEMO)

test: venv
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_PROCESSES) --dist loadgroup --durations=15 $(PYTEST_OPTIONS)

test-slow: venv
	$(BIN)/python -m pytest -m slow -n $(TEST_PROCESSES) --dist loadgroup --durations=15 $(PYTEST_OPTIONS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: venv
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(DEMO) build dist *.egg-info
