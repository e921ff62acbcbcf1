# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo runs test nightly chromium runtime lint audit lock docs release matrix clean

demo: .venv/ready
	$(BIN)/vaebench bench configs/benchmark/digits.yaml --results $(DEMO)
	$(BIN)/vaebench leaderboard $(DEMO) --html $(DEMO)/leaderboard.html

# Long trainings, from a list: one after another, resumed where they stopped; each line is a command of vaebench.
runs: .venv/ready
	@grep -v '^#' results/queue.txt | while read -r command; do \
		echo "== vaebench $$command"; \
		OMP_NUM_THREADS=1 nice -n 19 $(BIN)/vaebench $$command --results results < /dev/null || exit; \
	done

# One process more than there are cores, since many tests wait for processes of their own.
test: .venv/ready chromium runtime
	$(BIN)/python -m pytest -m "not slow" -n $$(( $$(nproc) + 1 )) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

nightly: .venv/ready chromium runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,ray,docs]"
	$(BIN)/python -m pytest

# The page is tested in Debian's Chromium, completion in zsh. Where they cannot be installed the tests say which of them did
# not run, or fail in CI for want of Chromium.
chromium:
	@{ command -v chromium && command -v zsh; } >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; \
		$$root apt-get update -qq && $$root apt-get install -y -qq --no-install-recommends chromium zsh; \
	} || echo "Chromium or zsh is missing and could not be installed; their tests will say that they did not run."

# onnxruntime-web, which the explorer's page runs in Chromium, from npm.
runtime:
	@$(PYTHON) .ci/tools.py runtime

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Looks the pins up in the public list of known holes; to be run on a schedule.
audit:
	@$(PYTHON) .ci/tools.py audit

# Writes requirements.lock, after a change of constraints.txt.
lock:
	$(PYTHON) .ci/tools.py lock

# The site of docs/, into build/site: strict, and readable from the folder without a network.
docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python docs/site/build.py

# Builds wheel and sdist, and tries the wheel in an empty environment; uploads nothing.
release:
	$(PYTHON) .ci/release.py

# The oldest and the newest versions that pyproject.toml allows, on every Python that is here.
matrix:
	$(PYTHON) .ci/matrix.py

# Made again whenever the dependencies change; torch comes from the pin in constraints.txt.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "vaebench needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv build dist runs
