# Everything a developer runs. Each target does all of its own set-up and can be run again.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup test test-unit truth today test-matrix disk-full judge rehearsals containers systemd pages soak-daemons demo bench lint types check dashboards kubernetes docs docs-reference dist clean

BIN := .venv/bin
INSTALL := bash tests/support/install/install.sh
EVERYTHING := dev monitoring programs versions helm

# So that pytest keeps its rewritten modules: without them every worker of every run rewrites 300 files.
export PYTHONDONTWRITEBYTECODE :=

# SUITE=forky: with Prometheus, Alertmanager and postgres_exporter of that Debian suite in place of this machine's own. Whoever
# starts them finds them by PATH, here and nowhere else.
export SUITE
ifneq ($(SUITE),)
export PATH := $(CURDIR)/.venv/monitoring/$(SUITE)/bin:$(PATH)
endif

TODAY := trixie forky
ABOUT_MONITORING := tests/healer/doctor tests/alerts tests/dashboards tests/deploy/test_kubernetes.py tests/e2e/test_stories.py \
  tests/bench tests/healer/webhook/test_silence_matcher_sets.py tests/docs/test_readme_on_servers.py

# What runs on each PostgreSQL version that it is about (files say so in a fixture's params), and the stories, on the newest.
ACROSS_VERSIONS := $(shell grep -rl --include=test_*.py -e 'params=.*SUPPORTED' -e 'params=.16, 17' -e 'tests.support.every_version' tests) tests/e2e/test_createsubscriber.py \
  tests/healer/remedies/test_capability.py::test_creation_is_healed_on_older_versions tests/e2e/test_stories.py

# In the order that tests/conftest.py gives the files.
PARALLEL := --numprocesses=6 --dist=loadgroup --no-loadscope-reorder

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## a virtual environment, PyPI packages, Debian's programs, helm, and PostgreSQL 14 to 19
	@$(INSTALL) $(EVERYTHING)

test:  ## all tests, on real servers
	@$(INSTALL) $(EVERYTHING) bench consumers
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),$(PARALLEL))

test-unit:  ## the tests that need only PyPI packages: no server, no program of Debian's, no build, no simulation; in under a minute
	@$(INSTALL) checks
	@$(BIN)/python -m pytest -m "not (servers or tools or simulation or truth)" $(if $(ARGS),$(ARGS),--numprocesses=3 --dist=worksteal)

truth:  ## the long situations of docs/reference/what-is-shown.md on real servers, in a quarter of an hour
	@$(INSTALL) $(EVERYTHING)
	@$(BIN)/python -m pytest -m truth tests/situations $(ARGS)

today:  ## doctor's, the rules', the end-to-end and the bench's tests with what newer Debian suites have (SUITE=one of them)
	@for suite in $(or $(SUITE),$(TODAY)); do \
	  $(MAKE) --no-print-directory test SUITE=$$suite ARGS="$(PARALLEL) $(ABOUT_MONITORING)"; done

containers:  ## build the Dockerfile and run docker-compose.yml in a container engine of its own (as root, four minutes)
	@bash tests/deploy/containers/run.sh

systemd:  ## boot a systemd in namespaces, install by README's commands, and check both units (as root, a minute)
	@bash tests/deploy/systemd/run.sh

pages:  ## open all pages in Chromium: axe-core, a phone's width, hostile names (as root or with sudo for apt, five minutes)
	@$(INSTALL) dev pages
	@$(BIN)/python -m tests.browser

soak-daemons:  ## both programs under everything that may leak or crash, all at once, for five minutes (TIME=3600: an hour)
	@$(INSTALL) dev
	@$(BIN)/python -m tests.simulations.daemon_soak $(if $(TIME),--seconds=$(TIME))

test-matrix:  ## the tests that go through PostgreSQL's versions, 14 to 19, and those alone
	@$(MAKE) --no-print-directory test ARGS="$(PARALLEL) $(ACROSS_VERSIONS)"

disk-full:  ## fill a small volume of PostgreSQL's in five ways, and compare what the alerts predicted (ten minutes)
	@$(INSTALL) $(EVERYTHING)
	@$(BIN)/python -m tests.simulations.full_volume

judge:  ## whom end_transaction ends, by judges who know who holds a slot: models, and servers 14 to 19 (half an hour)
	@$(INSTALL) $(EVERYTHING)
	@$(BIN)/python -m tests.simulations.terminations
	@$(BIN)/python -m tests.simulations.terminations.servers

rehearsals:  ## what rehearsals of switchovers said, against real ones on 17 to 19 (a quarter of an hour; WRITE=1: into the docs)
	@$(INSTALL) $(EVERYTHING)
	@$(BIN)/python -m tests.rehearsals $(if $(filter 1,$(WRITE)),--write)

demo:  ## the main job shown to a person, in about two minutes (KEEP=1 leaves the stack up)
	@$(INSTALL) demo monitoring
	@$(BIN)/python -m tests.e2e.demo $(if $(filter 1,$(KEEP)),--keep)

bench:  ## speed, against bare SQL and postgres_exporter, in under 10 minutes (QUICK=1: about one, a trial; JSON=file)
	@$(INSTALL) dev monitoring bench
	@$(BIN)/python -m tests.bench $(if $(filter 1,$(QUICK)),--quick) $(if $(JSON),--json=$(JSON))

lint:  ## ruff (rules and format), import-linter (the layers), generated pages that are outdated, zizmor (workflows)
	@$(INSTALL) checks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m docs.generators --check
	@$(BIN)/zizmor --offline --quiet --no-progress .github/workflows
	@$(BIN)/python -m deploy.kubernetes.generate --check

types:  ## mypy --strict
	@$(INSTALL) checks
	@$(BIN)/mypy

dashboards:  ## generate Grafana's dashboards and alert rules from their code and alerts/pgslot.rules.yml
	@$(INSTALL) checks
	@$(BIN)/python -m dashboards.generate
	@$(BIN)/python -m dashboards.alerting
	@$(BIN)/python -m deploy.kubernetes.generate

kubernetes:  ## generate the PrometheusRule, and what the Helm chart shares with deploy/kubernetes, alerts and dashboards
	@$(INSTALL) checks
	@$(BIN)/python -m deploy.kubernetes.generate

docs-reference:  ## write the generated pages of docs/reference
	@$(INSTALL) checks
	@$(BIN)/python -m docs.generators

docs: docs-reference  ## build the documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

dist:  ## build wheel, source distribution and SBOM in dist/, twice, and check and install them (TAG=v1.2.3: it must be the version)
	@$(INSTALL) checks
	@rm -rf dist
	@$(BIN)/python -m deploy.release $(if $(TAG),--tag=$(TAG))

check: lint types test  ## what CI runs

clean:  ## remove what setup made
	rm -rf site dist .venv .mypy_cache .ruff_cache .pytest_cache
