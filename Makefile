# One word a job. Everything runs in .venv, which the first target makes: tools/environment.sh says
# what PYTHON, VENV, TORCH, TORCH_INDEX and CPU_INDEX set. make itself exits with 2 whatever the
# command did: "Error 1" in its last line is the verdict "fail", "Error 2" is "could not tell".

VENV ?= .venv
IMAGE ?= gpu-env-validator:local
ENGINE ?= docker
ARGS ?=
CUDA_VENV ?= build/venv-cuda
CUDA_TORCH ?= torch==2.14.1
export VENV

BIN := $(VENV)/bin
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null)
# Arguments of the image that this machine's environment or command line set; the Dockerfile has the defaults.
BUILD_ARGS = $(foreach name,PYTHON_VERSION BASE_IMAGE INIT_IMAGE BASE_PYTHON TORCH TORCH_INDEX,\
	$(if $(filter undefined,$(origin $(name))),,--build-arg '$(name)=$($(name))'))
# Tests run on up to four cores; whoever wants them one by one says ARGS="-n 0".
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist worksteal

.PHONY: help validate test quick-test test-long test-versions test-kernels test-gpu test-lab lint bench chaos soak wheel image test-container test-cuda-wheel coverage-of-operations proven clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

validate: ## Judge the PyTorch of this machine; ARGS="--probe autograd" goes to `check`
	@tools/environment.sh run
	@$(BIN)/gpu-validator check $(ARGS)

test: ## Run the tests; ARGS="-k autograd" goes to pytest
	@tools/environment.sh dev
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not lab and not gpu and not long" $(ARGS)

quick-test: ## Run the fast tests, for the loop while typing: two minutes on two cores
	@tools/environment.sh dev
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not lab and not gpu and not slow and not long" $(ARGS)

test-long: ## Run the tests that `make test` leaves out for their length: long lives, more cases
	@tools/environment.sh dev
	@$(BIN)/python -m pytest -m long $(ARGS)

test-versions: ## Test with the lowest and newest versions of our dependencies; OLDEST_PYTHON=python3.10
	@tools/environment.sh dev
	@$(BIN)/python tools/versions.py $(ARGS)

test-kernels: ## Compile our kernels for every architecture, without a GPU; installs NVIDIA's compiler
	@tools/environment.sh dev
	@$(BIN)/python -m pip install --quiet --group kernels
	@$(BIN)/python -m pytest -m kernels $(ARGS)

test-gpu: ## Test on this machine's GPU, six minutes; ends with a table for a bug report
	@tools/environment.sh dev
	@$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

test-lab: ## Run the tests on real cluster software: Slurm, Alertmanager
	@tools/environment.sh dev
	@$(BIN)/python -m pytest -m lab $(ARGS)

lint: ## Check style, format, types and shell scripts
	@tools/environment.sh dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy gpu_env_validator.py probes validator tests
	@if command -v shellcheck >/dev/null; then shellcheck tools/*.sh .ci/run; \
	else echo 'shellcheck is not here: shell scripts not checked'; fi

bench: ## Measure check, daemon and scrapes against other tools on this machine
	@tools/environment.sh dev
	$(BIN)/python -m tests.benchmarks $(ARGS)

chaos: ## Disturb the daemon, and fail each of its libc calls once; ten minutes, ARGS="--seed 7 --seconds 60"
	@tools/environment.sh dev
	@$(BIN)/python -m tests.chaos $(ARGS)

soak: ## Measure the growth of the daemon's memory and descriptors an hour; ARGS="--seconds 300"
	@tools/environment.sh dev
	@$(BIN)/python -m tests.chaos soak --seconds 1200 $(ARGS)

wheel: ## Build the wheel into dist/
	@tools/environment.sh run
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/gpu_env_validator-$(VERSION)-*.whl

image: ## Build the container image; BASE_IMAGE=yours TORCH= judges your image's own torch
	$(ENGINE) build --tag $(IMAGE) $(BUILD_ARGS) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		--build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) $(ARGS) .

test-container: ## Test the image that `make image` built
	@tools/environment.sh dev
	@VALIDATOR_TEST_IMAGE=$(IMAGE) $(BIN)/python -m pytest -m container $(ARGS)

test-cuda-wheel: ## Test torch's real CUDA build on fake drivers, without a GPU; takes 6 GB of disk
	@tools/environment.sh dev
	@VENV=$(CUDA_VENV) TORCH= tools/environment.sh run
	@$(CUDA_VENV)/bin/python -c 'import numpy, torch' 2>/dev/null || \
		$(CUDA_VENV)/bin/python -m pip install --quiet '$(CUDA_TORCH)' 'numpy>=1.23'
	@VALIDATOR_CUDA_PYTHON=$(abspath $(CUDA_VENV))/bin/python $(BIN)/python -m pytest -m cuda_wheel $(ARGS)

coverage-of-operations: ## Make every operation that training calls wrong, and see which check fails; hours, ARGS="--every 8" a sample
	@tools/environment.sh corpus
	@$(BIN)/python -m tests.corpus.campaign $(ARGS)

proven: ## Write probes/proven.json from the reports recorded on real hardware
	@tools/environment.sh dev
	@$(BIN)/python tools/proven.py

clean: ## Remove the environment and all caches
	@# An environment that was there before us is not ours to remove.
	@if [ -e $(VENV)/made-by-gpu-env-validator ]; then rm -rf $(VENV); fi
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find probes validator tests -name __pycache__ -type d -prune -exec rm -rf {} +
