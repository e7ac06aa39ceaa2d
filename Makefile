# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs.
# PYTHON picks the interpreter (3.11 or newer), PIP_ARGS goes to every pip install.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DEMO_ARGS ?=
BENCH_ARGS ?=
EXAMPLE_ARGS ?=
SCREENS ?=
TEST_ARGS ?=
TEST_PROCESSES ?= auto
EXTRAS := service,oidc,observe,s3,train,quantize,export,semantic,scale,evaluate,codebleu,embedded,docs,examples,dev

.PHONY: setup audit demo examples test clients test-clients check format clean lock screens bench-admin bench-capture bench-curation bench-evaluation bench-load bench-faults bench-loss bench-router bench-scale bench-training bench-venv

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python: $$($(PYTHON) --version), expected 3.11 or newer. Run: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing, expected it beside $(PYTHON). On Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/flywheel demo $(DEMO_ARGS)

# The files of tests go to as many processes as there are cores, each with a database of its own.
# Hypothesis draws the same examples in each run, and gives none of them a deadline.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	  --hypothesis-profile=ci $(TEST_ARGS)

# The clients of other people, in virtual environments of their own: beside the light install of
# this project, so that it is tested too.
CLIENTS := openai1 openai3 langchain

clients: $(CLIENTS:%=.venv-clients-%/.installed)

test-clients: $(READY) clients
	@for client in $(CLIENTS); do echo "$$client:"; \
	  .venv-clients-$$client/bin/python -m pytest --confcutdir=tests/collector/wrappers \
	    tests/collector/wrappers || exit 1; done
	$(BIN)/python -m pytest tests/router/test_real_clients.py -k other_versions

.venv-clients-%/.installed: tests/clients/%.txt pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	  --requirement $< --editable . || \
	  { echo "$*: not tested, pip could not install $< (is the package index reachable?)"; exit 2; }
	@touch $@

# The agents of examples/, with services of their own and a model that only pretends.
examples: $(READY)
	$(BIN)/python -m examples.run $(EXAMPLE_ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_architecture.py

# docs/ as a site that needs no other host, in site/; a page that is missing or a dead link is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html"

docs-serve: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# Known vulnerabilities, where the index tells of them; and whether everything is pinned.
audit: $(READY) .venv-audit/.installed
	$(BIN)/python .ci/audit.py

.venv-audit/.installed: .ci/audit.txt
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	  --requirement $< && touch $@ || echo "pip-audit could not be installed"

# What the images install, anew from pyproject.toml and constraints.txt, each file with its hash.
lock:
	deploy/lock

# Pictures of every page of the admin view, under docs/screens: look at them after a change.
screens: $(READY)
	$(BIN)/python -m tests.browser.screens $(SCREENS)

# Each prints figure, bar, measured and ratio, and fails when a bar is missed.
bench-admin: $(READY)
	$(BIN)/python -m benchmarks.admin $(BENCH_ARGS)

bench-capture: $(READY) bench-venv
	$(BIN)/python -m benchmarks.capture $(BENCH_ARGS)

bench-curation: $(READY) bench-venv
	$(BIN)/python -m benchmarks.curation $(BENCH_ARGS)

bench-evaluation: $(READY) bench-venv
	$(BIN)/python -m benchmarks.evaluation $(BENCH_ARGS)

bench-load: $(READY)
	$(BIN)/python -m benchmarks.load $(BENCH_ARGS)

bench-faults: $(READY)
	$(BIN)/python -m benchmarks.faults $(BENCH_ARGS)

bench-loss: $(READY)
	$(BIN)/python -m benchmarks.loss $(BENCH_ARGS)

bench-router: $(READY) .venv-bench-router/.installed
	$(BIN)/python -m benchmarks.router $(BENCH_ARGS)

bench-scale: $(READY)
	$(BIN)/python -m benchmarks.scale $(BENCH_ARGS)

bench-training: $(READY)
	$(BIN)/python -m benchmarks.training $(BENCH_ARGS)

# What our figures are printed beside, apart from this project's requirements.
bench-venv: .venv-bench/.installed .venv-bench-dedupe/.installed .venv-bench-evaluation/.installed .venv-bench-router/.installed

.venv-bench/.installed: benchmarks/peers.txt
.venv-bench-dedupe/.installed: benchmarks/peers-dedupe.txt
.venv-bench-evaluation/.installed: benchmarks/peers-evaluation.txt
.venv-bench-router/.installed: benchmarks/peers-router.txt
.venv-bench/.installed .venv-bench-dedupe/.installed .venv-bench-evaluation/.installed .venv-bench-router/.installed:
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
	  --requirement $<
	@touch $@

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-audit site .venv-clients-* .venv-bench* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
