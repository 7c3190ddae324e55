# What a person can do here. `make help` lists it. Needs Python 3.11 or newer and make; the rest installs itself.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# make ablation DATA=imagenette DATA_ROOT=/where/it/is SIZE=64 EPOCHS=15ep SEEDS=0,1,2 ARGS="device.precision=bf16"
DATA ?= postcards
DATA_ROOT ?=
SIZE ?=
EPOCHS ?=
SEEDS ?=
ARGS ?=
# make bench ROWS="C1 C3" ARGS="--data DIR"
ROWS ?=
# make test-integration PART=2/3
PART ?= 1/1
STUDY := $(if $(filter postcards,$(DATA)),ablation,ablation-$(DATA))
# On a CPU Imagenette takes 64 px and 15 epochs, on a GPU 160 px and 50, by default.
HAS_GPU = $(shell $(BIN)/python -c "import torch; print(int(torch.cuda.is_available()))")
SCALE = $(if $(filter imagenette,$(DATA)),data.size=$(or $(SIZE),$(if $(filter 1,$(HAS_GPU)),160,64)) \
	epochs=$(or $(EPOCHS),$(if $(filter 1,$(HAS_GPU)),50ep,15ep)),\
	$(if $(SIZE),data.size=$(SIZE)) $(if $(EPOCHS),epochs=$(EPOCHS)))
OVERRIDES = data=$(DATA) study.name=$(STUDY) $(SCALE) $(if $(DATA_ROOT),data.root=$(DATA_ROOT)) \
	$(if $(SEEDS),seed=$(SEEDS)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help install ablation report bench test test-integration test-all fuzz reliability lint format wheel clean-cache clean

help:  ## list what can be done
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo 'make ablation DATA=imagenette [DATA_ROOT=DIR SIZE=64 EPOCHS=15ep SEEDS=0,1,2 ARGS="device.precision=bf16"]'
	@echo 'make install PIP_ARGS="--index-url URL"    another source of packages, for a lighter torch'

install: $(STAMP)  ## set up .venv with cnnexp and what it needs (once)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cnnexp needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try make PYTHON=python3.12 ..."; exit 2; }
	@echo "setting up $(VENV) (torch is large: a minute or more)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

ablation: $(STAMP)  ## the ablation study, then its report (DATA=postcards, offline; or DATA=imagenette, ...)
	@$(BIN)/cnnexp train +study=ablation $(OVERRIDES); code=$$?; \
	case $$code in 0|3) $(BIN)/cnnexp report outputs/$(STUDY) && exit $$code;; *) exit $$code;; esac

report: $(STAMP)  ## the report of the last ablation (DATA=...)
	@$(BIN)/cnnexp report outputs/$(STUDY)

bench: $(STAMP)  ## measure against plain PyTorch, Lightning, fastai: 30 minutes (ROWS="C1 C3" ARGS="--data DIR")
	@$(BIN)/python scripts/benchmark.py $(ROWS) $(ARGS)

test: $(STAMP)  ## the fast tests: about 3 minutes on a slow 2-core CPU
	@$(BIN)/python -m pytest -q -n 2

test-integration: $(STAMP)  ## the tests that train, start processes or a browser (PART=1/3: a third of them)
	@$(BIN)/python -m pytest -q -n 2 -m 'integration and not slow and not cluster' --part $(PART)

reliability: $(STAMP)  ## every kill, fault and damaged file, counted into docs/reliability.md (minutes)
	@$(BIN)/python scripts/reliability.py $(ROWS)

test-all: $(STAMP)  ## all tests, also on a SLURM of their own if slurm-wlm is installed and you are root, and on Ray if that is
	@$(BIN)/python -m pytest -q -n 2 -m ''

fuzz: $(STAMP)  ## 10,000 generated requests, right and wrong: none may end in a traceback (minutes)
	@CNNEXP_FUZZ=10000 $(BIN)/python -m pytest -q -n 2 -m slow tests/guarantees/test_fuzz.py

lint: $(STAMP)  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(STAMP)  ## let ruff lay out the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

wheel: $(STAMP)  ## build dist/cnnexp-*.whl
	@$(BIN)/python -m pip wheel --quiet --no-deps -w dist .

clean-cache: $(STAMP)  ## delete the prepared images
	@$(BIN)/cnnexp data --clear-cache

clean:  ## delete .venv and build products; outputs/ stays
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
