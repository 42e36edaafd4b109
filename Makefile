# `make run` shows the embedded model at work, `make test` checks everything; both set up .venv on first use.
PYTHON ?= python3
VENV := .venv
# Processes that run tests: one more than two cores have, as some tests mostly wait.
WORKERS ?= 3
BIN := $(VENV)/bin
# Without an NVIDIA GPU the pinned torch of constraints.txt avoids gigabytes of CUDA packages.
CONSTRAINTS := $(if $(shell command -v nvidia-smi 2>/dev/null),,-c constraints.txt)

.PHONY: run test lint setup browser screenshots docs clean
setup: $(VENV)/.installed

# The kernels are built again when their sources change.
$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard diffusiongemma/kernels/csrc/* diffusiongemma/kernels/csrc/*/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[dev,video]'
	touch $@

run: setup
	$(BIN)/diffusiongemma run --watch --delay 0.6 </dev/null

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# For the tests of the page where the system has no chromium.
browser: setup
	$(BIN)/python -m playwright install chromium

# Every view of the page, light, dark and on a phone, into docs/pictures.
screenshots: setup
	$(BIN)/python docs/pictures.py

# Into site/, an ignored folder.
docs: setup
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# A file's tests share a process; processes share the cores, a thread each.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

clean:
	rm -rf $(VENV)
