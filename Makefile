# make deploy: from ONNX to VTA in one command. make test: all tests. The rest is for developers; see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SOURCES := $(shell find flow relay_passes vta_config -type f ! -name '*.pyc' ! -name '*.so') \
	CMakeLists.txt pyproject.toml
CPP := $(wildcard flow/sim/core/*.cc flow/sim/core/*.h tests/fuzz/*.cc tests/fuzz/*.h \
	flow/runner/*.cc flow/runner/*.h tests/flow/runner/*.cc)

.PHONY: deploy install core test lint format docs bench clean

# The variants that your own model gets, too, and one of 4 bits; ARGS='--variant per_tensor' adds a row.
DEMO := --model gauges-resnet18 \
	$(addprefix --variant ,stock_relay single_scale profiled profiled_fused best w4a8)

deploy: $(VENV)/.installed
	$(BIN)/python scripts/deploy_resnet18.py --output out/deploy $(DEMO) $(ARGS)

install: $(VENV)/.installed

# The tests import the source tree, so the core is built into it.
core: $(VENV)/.dev
	$(BIN)/cmake -S . -B build/core -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
		-DPython_EXECUTABLE=$(abspath $(BIN)/python) -DVTA_WERROR=ON
	$(BIN)/cmake --build build/core

# On all cores; ARGS='-n 0 -s' for one process that shows what it prints.
test: core
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/python -m vta_config.generate --check
	$(BIN)/python -m relay_passes.operators.generate --check
	$(BIN)/python -m flow.results.generate --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

# The pages as a site, build/site/index.html; warnings are errors.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VENV)/.installed
	$(BIN)/python scripts/bench.py $(ARGS)

clean:
	rm -rf build out

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet '.[plot]'
	touch $@

# Only when the tools change: tests and lint read the source tree.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet '.[dev]'
	touch $@
