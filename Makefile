# One line a target; `make` alone prints this help.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# TORCH=cpu takes PyTorch's builds without CUDA, which only its own index has, or a mirror of it:
# TORCH_INDEX=URL. That index is asked for torch and torchvision alone.
TORCH ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: help install demo test test-runtime test-fast test-gpu check docs format bench proto clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed  ## make .venv with everything (TORCH=cpu: without CUDA)

$(VENV)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): some minutes, several GB (README, 'Two commands')"
ifeq ($(TORCH),cpu)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --index-url $(TORCH_INDEX) "torch>=2.9,<3" "torchvision>=0.24"
endif
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@$(BIN)/python -m simulations activation $(VENV)
	@touch $@

demo: install  ## train four sites that share no photo, morph two people, write runs/demo
	@$(BIN)/python -m simulations demo

test: install  ## the whole test suite, with one Ray simulation and one real TLS federation
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

RUNTIME := $(VENV)-runtime
$(RUNTIME)/.installed: pyproject.toml
	@test -x $(RUNTIME)/bin/python || $(PYTHON) -m venv $(RUNTIME)
	@$(RUNTIME)/bin/python -m pip install --quiet --disable-pip-version-check -e .
	@$(RUNTIME)/bin/facemorph-core inspect starter --check >/dev/null  # with what users have, and no more
	@$(RUNTIME)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@

test-runtime: $(RUNTIME)/.installed  ## what morphs, tested where there is no torch: a venv of its own
	@! $(RUNTIME)/bin/python -c "import torch" 2>/dev/null || { echo "$(RUNTIME) has torch" >&2; exit 1; }
	@$(RUNTIME)/bin/python -m pytest -n 2 tests/core --ignore tests/core/learning

test-fast: install  ## the tests that take no more than a moment each
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-gpu: install  ## what trains on a GPU, held to the CPU; needs a GPU
	@$(BIN)/python -m pytest -m gpu

check: install  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy facemorph_core client server simulations benchmarks tools examples
	@$(BIN)/lint-imports

docs: $(VENV)/.docs  ## the documentation site in site/, strict; needs neither torch nor Flower
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

$(VENV)/.docs: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

format: install  ## format and sort imports in place
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

DATA ?= $(HOME)/data/celeba
bench: install  ## short versions of the benchmarks, a quarter of an hour; needs CelebA (DATA=FOLDER)
	@test -d "$(DATA)" || { echo "no CelebA in $(DATA): make bench DATA=FOLDER (official layout)" >&2; exit 1; }
	@$(BIN)/python -m benchmarks quality --data "$(DATA)" --quick --rows dct-128,pca-128,textbook-vae,vae
	@$(BIN)/python -m benchmarks speed --data "$(DATA)" --quick
	@$(BIN)/python -m benchmarks federation --data "$(DATA)" --name federation-quick \
		--photos 512 --rounds 2 --seeds 1 --rows central,base,int8
	@$(BIN)/facemorph-core bench --seconds 1

proto: install  ## make the messages of the hub and of ONNX anew from their .proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. facemorph_core/hub/proto/hub.proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. facemorph_core/bundle/proto/onnx.proto

clean:  ## remove what tools cached; runs and .venv stay
	@rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info .import_linter_cache site
