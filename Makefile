# Needs git, make and Python 3.11 or newer; everything else comes from the hash-locked requirement files.
# `make` alone prints this help.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := core services/api services/indexer-worker services/ai-worker services/learning-worker
PYPROJECTS := $(PACKAGES:%=%/pyproject.toml)
SOURCES := $(PACKAGES:%=%/src) $(PACKAGES:%=%/tests) tests k8s-tests benchmarks conftest.py
EXISTING := $(wildcard $(SOURCES))
# tests/laptop starts the whole product, from the wheels alone.
TESTS := tests/laptop core/tests $(wildcard services/*/tests)
# Chosen tests or options: make test T="core/tests/test_settings.py -x"
T ?=
# Chosen sections and options: make bench-tasks B="throughput --rounds 1"
B ?=
.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help setup run test lint format lock reference bench bench-tasks bench-search quality clean test-integration test-browser \
  test-faults test-faults-long test-model-long images test-chart k8s-test k8s-test-short kind-up chart-lint chart-files

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "SicargaBox. Targets:"} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use it

run: $(VENV)/run.stamp ## Start the whole product here (Ctrl-C stops it); settings by SICARGABOX_… variables
	@exec $(BIN)/sicargabox run

setup: $(VENV)/dev.stamp ## Make .venv with everything for development

clean: ## Remove .venv and caches (never the data folder)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.data/*' -prune -exec rm -rf {} +

##@ Test it (T="path -x" runs chosen tests; skipped tests are listed with the reason)

# Side by side, module by module; each process starts servers of its own. Chosen tests run in one. In their order:
# sorted by their number of tests, the longest module (of two) came last, and one process waited for it.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder
# Tests that wait for servers to die and to return more than they work: one more of them than two cores have.
WAITING := -n 3 --dist loadscope

test: $(VENV)/dev.stamp ## Every test that needs no further server
	$(BIN)/python -m pytest $(or $(T),$(SIDE_BY_SIDE) $(TESTS))

test-integration: $(VENV)/dev.stamp ## Tests that need PostgreSQL, redis-server and Elasticsearch (no service; they start them)
	$(BIN)/python -m pytest $(or $(T),$(WAITING) tests/integration)

test-browser: $(VENV)/dev.stamp ## Tests that need Chromium (Debian's; nothing is downloaded)
	$(BIN)/python -m pytest $(or $(T),tests/browser)

test-faults: $(VENV)/dev.stamp ## Every fault once on a whole installation under load (some as root; minutes)
	$(BIN)/python -m pytest $(or $(T),tests/faults)

FAULT_RESULTS ?= fault-results.jsonl
FAULT_REPEATS ?= 5
test-faults-long: export SICARGABOX_TEST_FAULT_REPEATS = $(FAULT_REPEATS)
test-faults-long: export SICARGABOX_TEST_FAULT_RESULTS = $(abspath $(FAULT_RESULTS))
test-faults-long: $(VENV)/dev.stamp ## Every fault FAULT_REPEATS times; adds to FAULT_RESULTS and writes docs/durability.md
	$(BIN)/python -m pytest $(or $(T),tests/faults); result=$$?; \
	  $(BIN)/python -m tests.faults.report $(FAULT_RESULTS) && exit $$result

# The programs: on PATH, or named by SICARGABOX_TEST_HELM, …_KUBECONFORM and …_PROMTOOL.
test-chart: $(VENV)/k8s-tests.stamp ## Tests of the Helm chart that need no cluster (Helm, kubeconform, promtool, redis-server)
	$(BIN)/python -m pytest $(or $(T),-n auto --maxprocesses 2 --dist loadfile -m "not cluster" k8s-tests)

# On the cluster of KUBECONFIG, with the images of IMAGE_PREFIX and IMAGE_TAG in it. SICARGABOX_TEST_IMAGE_LOAD is the
# command that brings an image named after it there, for tests that build one.
K8S_FIGURES ?= cluster-figures.jsonl
k8s-test k8s-test-short: export SICARGABOX_TEST_IMAGE_PREFIX = $(IMAGE_PREFIX)
k8s-test k8s-test-short: export SICARGABOX_TEST_IMAGE_TAG = $(IMAGE_TAG)
k8s-test: export SICARGABOX_TEST_CLUSTER_FIGURES = $(abspath $(K8S_FIGURES))
k8s-test: $(VENV)/k8s-tests.stamp ## Every test on the cluster of KUBECONFIG (about an hour); writes K8S_FIGURES, and docs/kubernetes.md when all passed
	@: >$(K8S_FIGURES)
	$(BIN)/python -m pytest $(or $(T),-m cluster k8s-tests)
	@$(if $(T),,! test -s $(K8S_FIGURES) || $(BIN)/python -m tests.kubernetes.figures $(K8S_FIGURES))

k8s-test-short: $(VENV)/k8s-tests.stamp ## Of these: install, smoke test, scale one queue from zero and back, fail over once
	$(BIN)/python -m pytest $(or $(T),-m 'cluster and short' k8s-tests)

KIND ?= kind
KIND_ARGS ?=
kind-up: images ## Make a kind cluster with the images (needs Docker and kind; KEDA and metrics-server are yours to add)
	$(KIND) get clusters | grep -qx sicargabox || $(KIND) create cluster --config k8s-tests/kind.yaml --wait 5m $(KIND_ARGS)
	for name in $(IMAGES); do $(KIND) load docker-image --name sicargabox $(IMAGE_PREFIX)$$name:$(IMAGE_TAG) || exit 1; done
	@echo "Now KEDA, for the tests of scaling, from its published manifest:"
	@echo "  kubectl apply --server-side -f https://github.com/kedacore/keda/releases/download/v2.20.2/keda-2.20.2.yaml"
	@echo "and metrics-server from its own; then"
	@echo "  $(KIND) get kubeconfig --name sicargabox >kind.kubeconfig"
	@echo "  KUBECONFIG=\$$PWD/kind.kubeconfig SICARGABOX_TEST_IMAGE_LOAD='$(KIND) load docker-image --name sicargabox' make k8s-test"

EXAMPLES ?= 10000
test-model-long: export SICARGABOX_TEST_EXAMPLES = $(shell expr $(EXAMPLES) / 2)
test-model-long: $(VENV)/dev.stamp ## The model of tasks in EXAMPLES random orders, half of them on each database (SEED=n repeats a run)
	@export SICARGABOX_TEST_SEED=$${SEED:-$$(shuf -i 0-999999999 -n 1)} SICARGABOX_REQUIRE_SERVERS=1; \
	  for kind in sqlite postgres; do \
	    $(BIN)/python -m pytest -q -p no:cacheprovider core/tests/task_laws/test_any_order.py -k $$kind & running="$$running $$!"; \
	  done; \
	  for one in $$running; do wait $$one || failed=1; done; \
	  echo "$(EXAMPLES) examples were asked for, seed $$SICARGABOX_TEST_SEED: $$(test -z "$$failed" && echo the laws held || echo FAILED)"; test -z "$$failed"

##@ Keep it tidy

lint: $(VENV)/dev.stamp ## ruff, formatting, mypy --strict and the import rules
	$(BIN)/ruff check $(EXISTING)
	$(BIN)/ruff format --check $(EXISTING)
	$(BIN)/mypy $(wildcard $(PACKAGES:%=%/src) tests benchmarks conftest.py)
	@# A package's tests by themselves: files of the same name in two packages are then no clash.
	@for tests in $(wildcard $(PACKAGES:%=%/tests) k8s-tests); do echo "$(BIN)/mypy $$tests"; $(BIN)/mypy "$$tests" || exit 1; done
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix $(EXISTING)
	$(BIN)/ruff format $(EXISTING)

CHART := charts/sicargabox
HELM ?= $(or $(SICARGABOX_TEST_HELM),helm)

chart-lint: ## helm lint with every profile; shellcheck on the chart's scripts, where it is installed
	@for profile in "" dev ha external; do \
	  $(HELM) lint --strict --quiet $(CHART) $${profile:+--values $(CHART)/values-$$profile.yaml} || exit 1; done
	@PATH=$(abspath $(BIN)):$$PATH; if command -v shellcheck >/dev/null; then shellcheck redis/*.sh $(CHART)/files/scripts/*.sh; \
	  else echo "shellcheck is not installed: the scripts were not looked at"; fi

chart-files: $(VENV)/dev.stamp ## Write what the chart holds twice: redis/ files, its README's tables, dashboards (tests compare)
	@$(BIN)/python k8s-tests/chart_files.py && $(BIN)/python k8s-tests/dashboards.py

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links $(LOCKFLAGS)
LOCKED := build api indexer-worker ai-worker learning-worker run peers k8s-tests

lock: $(VENV)/dev.stamp ## Lock requirements/*.in into *.txt (LOCKFLAGS=--upgrade takes newer versions)
	cd requirements && ../$(LOCK) dev.in -o dev.txt
	cd requirements && for name in $(LOCKED); do ../$(LOCK) "$$name.in" -c dev.txt -o "$$name.txt" || exit 1; done

##@ Ship it

IMAGES := api indexer-worker ai-worker learning-worker
IMAGE_PREFIX ?= sicargabox-
IMAGE_TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' core/pyproject.toml)
# Another builder, or more arguments: IMAGE_ARGS="--build-arg PIP_INDEX_URL=… --build-arg PYTHON_IMAGE=…"
DOCKER_BUILD ?= docker build
IMAGE_ARGS ?=

images: ## Build the four images (IMAGES="api" builds one; also IMAGE_PREFIX, IMAGE_TAG, IMAGE_ARGS, DOCKER_BUILD)
	@for name in $(IMAGES); do \
	  $(DOCKER_BUILD) $(IMAGE_ARGS) --build-arg VERSION=$(IMAGE_TAG) --build-arg REVISION=$$(git rev-parse HEAD) \
	    -t $(IMAGE_PREFIX)$$name:$(IMAGE_TAG) -f services/$$name/Dockerfile . || exit 1; \
	done

##@ Measure it

reference: $(VENV)/dev.stamp ## Write docs/reference.md from the code (a test compares it)
	@$(BIN)/python -m sicargabox_core.reference docs/reference.md

bench: $(VENV)/dev.stamp ## Print the machine and the figures the README promises (some minutes)
	@$(BIN)/python -m benchmarks

bench-tasks: $(VENV)/peers.stamp ## Tasks beside Celery, Dramatiq, RQ and Procrastinate (a quarter of an hour; B="idle --rounds 1")
	@$(BIN)/python -m benchmarks.tasks $(B)

quality: $(VENV)/dev.stamp ## Measure the search on the official tariff; writes docs/search.md's figures and the baseline (tests compare)
	@$(BIN)/python -m benchmarks.quality $(B)

bench-search: $(VENV)/dev.stamp ## Both search engines in one run (B="rebuild --rounds 1"; B="--million --out FILE" for the document)
	@$(BIN)/python -m benchmarks.search $(B)

# ── The environment ──────────────────────────────────────────────────────────────────────────────────────────────
# A stamp says with which locks .venv was filled; it is made anew only when they change.

INSTALL := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check
EDITABLE := $(PACKAGES:%=--editable %)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "SicargaBox needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) >/dev/null || { \
	  echo "This Python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 2; }

$(VENV)/run.stamp: requirements/run.txt $(PYPROJECTS) | $(VENV)/bin/python
	@echo "Installing what SicargaBox needs into $(VENV) …"
	@$(INSTALL) --no-deps --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-build-isolation --no-deps $(EDITABLE)
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(PYPROJECTS) | $(VENV)/bin/python
	@echo "Installing what development needs into $(VENV) …"
	@$(INSTALL) --no-deps --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-build-isolation --no-deps $(EDITABLE)
	@touch $@ $(VENV)/run.stamp

# The schemas of Kubernetes, 23 MB; nothing but the tests of the chart needs them.
$(VENV)/k8s-tests.stamp: requirements/k8s-tests.txt $(VENV)/dev.stamp
	@echo "Installing what the tests of the chart need into $(VENV) …"
	@$(INSTALL) --no-deps --require-hashes -r requirements/k8s-tests.txt
	@touch $@

# What the product is measured beside; nothing else needs it.
$(VENV)/peers.stamp: requirements/peers.txt $(VENV)/dev.stamp
	@echo "Installing the task queues to compare with into $(VENV) …"
	@$(INSTALL) --no-deps --require-hashes -r requirements/peers.txt
	@touch $@
