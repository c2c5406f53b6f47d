# Everything a newcomer types. PYTHON chooses the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet --quiet --constraint constraints.txt

.PHONY: demo serve test soak fuzz check bench bench-profile bench-updates clean
.DEFAULT_GOAL := demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The service as an operator installs it, and matplotlib for the demo's picture. No torch.
$(VENV)/.service: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[cpu,demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.service
	$(PIP) --editable '.[cpu,demo,train,dev,otel]'
	touch $@

demo: $(VENV)/.service  ## locate 400 users of a city that the model never saw, over real HTTP
	$(BIN)/python -m benchmarks.demo

serve: $(VENV)/.service  ## the demo's cells, served until Ctrl-C
	$(BIN)/python -m benchmarks.demo --serve

test: $(VENV)/.dev  ## every test
	$(BIN)/python -m pytest

soak: $(VENV)/.dev  ## what takes long to see: killed writers, a Redis that fails, rolling restarts; an hour of flat memory
	$(BIN)/python -m tests.soak
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

fuzz: $(VENV)/.dev  ## requests that nobody in his senses would send, for ten minutes
	$(BIN)/python -m tests.service.fuzzing

check: $(VENV)/.dev  ## style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv-bench/.rivals: benchmarks/serving/rivals.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip --disable-pip-version-check install --quiet --quiet --requirement $<
	touch $@

bench: $(VENV)/.dev .venv-bench/.rivals  ## how fast it answers, beside LitServe, BentoML, ONNX Runtime and PyTorch
	$(BIN)/python -m benchmarks.serving

bench-profile: $(VENV)/.dev .venv-bench/.rivals  ## where the CPU of a location goes: top ten functions and a flame graph
	$(BIN)/python -m benchmarks.serving.profile

bench-updates: $(VENV)/.dev  ## what updates cost users, and when they see them
	$(BIN)/python -m benchmarks.updates

clean:
	rm -rf $(VENV) .venv-bench var build *.egg-info
