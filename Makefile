# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test nightly lint clean

demo: .venv/ready
	$(BIN)/vaebench bench configs/benchmark/digits.yaml --results $(DEMO)
	$(BIN)/vaebench leaderboard $(DEMO) --html $(DEMO)/leaderboard.html

test: .venv/ready
	$(BIN)/python -m pytest -m "not slow"

nightly: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,ray]"
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Made again whenever the dependencies change; torch comes from the pin in constraints.txt.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "vaebench needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv runs
