# The commands of a developer. PYTHON is the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet --quiet --constraint constraints.txt

.PHONY: demo serve test check docs screenshots release soak fuzz bench bench-profile bench-updates clean
.DEFAULT_GOAL := demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The service as an operator installs it, and matplotlib for the demo's picture. No torch.
$(VENV)/.service: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) ./models/artifacts --editable '.[cpu,demo]'
	touch $@

# The site's reference pages are made from the code of the service.
$(VENV)/.docs: pyproject.toml constraints.txt $(VENV)/.service
	$(PIP) ./models/artifacts --editable '.[cpu,demo,docs]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.service
	$(PIP) ./models/artifacts --editable '.[cpu,demo,dev,docs,otel,train]'
	touch $@ $(VENV)/.docs

demo: $(VENV)/.service  ## locate 400 users in a city that the model was not trained on, over HTTP
	$(BIN)/python -m benchmarks.demo

serve: $(VENV)/.service  ## serve the demo's cells until Ctrl-C
	$(BIN)/python -m benchmarks.demo --serve

test: $(VENV)/.dev  ## run all tests, on up to four cores: each file of tests on one of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev  ## check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## build the documentation site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(VENV)/.dev  ## make the pictures of the console in docs/ anew
	FINGERPOST_CONSOLE_PICTURES=docs $(BIN)/python -m pytest tests/service/console/test_pictures.py

release: $(VENV)/.dev  ## build wheels, sdist, image context and SBOM into dist/, and try them as users install them
	$(PIP) --editable '.[release]'
	$(BIN)/python -m deploy.release

soak: $(VENV)/.dev  ## run the long tests: killed writers, failing Redis, rolling restarts, an hour of load
	$(BIN)/python -m tests.soak
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

fuzz: $(VENV)/.dev  ## search for failing property tests at random, then send malformed requests for ten minutes
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -m hypothesis
	$(BIN)/python -m tests.service.fuzzing

.venv-bench/.rivals: benchmarks/serving/rivals.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip --disable-pip-version-check install --quiet --quiet --requirement $<
	touch $@

bench: $(VENV)/.dev .venv-bench/.rivals  ## measure speed beside LitServe, BentoML, ONNX Runtime and PyTorch; FULL=1 for an hour instead of half of one
	$(BIN)/python -m benchmarks.serving $(if $(FULL),--full)

bench-profile: $(VENV)/.dev .venv-bench/.rivals  ## profile one location: the ten functions with the most CPU time, and a flame graph
	$(BIN)/python -m benchmarks.serving.profile

bench-updates: $(VENV)/.dev  ## measure how updates of a cell affect its users, and when users see the new version
	$(BIN)/python -m benchmarks.updates

clean:
	rm -rf $(VENV) .venv-bench var build dist site *.egg-info
