# Two commands set up everything on a fresh machine: `make demo` and `make test`.
# make demo PHOTO=mine.jpg SCALE=4    the main job on a photograph of yours
# make ablation-demo                  estimated against true kernels on three photographs, as a page
PYTHON ?= python3
PHOTO ?= examples/chelsea.png
SCALE ?= 2
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo ablation-demo test lint format quality docs wheel clean
.DEFAULT_GOAL := demo

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "blindsr needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@echo "Installing blindsr, PyTorch and what else it needs into $(VENV): a few minutes, by the connection."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	@mkdir -p demo
	@echo "Enlarging $(PHOTO): the example takes some seconds, larger photographs longer."
	$(BIN)/blindsr estimate-and-upscale "$(PHOTO)" --scale $(SCALE) --force --verbose \
	  -o "demo/$(notdir $(basename $(PHOTO)))_blindsr_x$(SCALE).png"
	@echo "The results are in the folder demo/: open the picture beside the original at 100 %."

ablation-demo: $(VENV)/installed
	$(BIN)/python benchmarks/sample_photographs.py demo/photos
	$(BIN)/blindsr degrade demo/photos -o demo/set --force
	$(BIN)/blindsr ablate demo/set -o demo/ablation --config benchmarks/ablation_demo.toml --jobs 2
	@echo "Open demo/ablation/report.html in a browser."

# Compiled files are kept, or every process that a test starts would compile the package again.
test: $(VENV)/installed-dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# 12 images: fails when a mean falls by more than 0.02 dB, or a step becomes 20 % slower than it was relative to a
# reference operation of the same run.
quality: $(VENV)/installed
	$(BIN)/python benchmarks/quality.py

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# The documentation site, with the reference of the command line and of Python generated from the package.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html in a browser."

wheel: $(VENV)/installed-dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist demo site .pytest_cache .mypy_cache .ruff_cache
