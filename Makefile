# Everything a developer runs. Each target does all of its own set-up and can be run again.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup test demo bench lint types check dashboards kubernetes clean

BIN := .venv/bin

help:  ## show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## virtual environment, PyPI packages, Debian's prometheus, alertmanager and docker-compose
	@bash tests/stack/install.sh

test:  ## all tests, on real servers
	@bash tests/stack/install.sh bench
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--numprocesses=4 --dist=loadgroup)

demo: setup  ## the main job shown to a person, in about two minutes (KEEP=1 leaves the stack up)
	@$(BIN)/python -m tests.demo $(if $(filter 1,$(KEEP)),--keep)

bench:  ## speed, against bare SQL and postgres_exporter, in under 10 minutes (QUICK=1: about one, a trial; JSON=file)
	@bash tests/stack/install.sh bench
	@$(BIN)/python -m tests.bench $(if $(filter 1,$(QUICK)),--quick) $(if $(JSON),--json=$(JSON))

lint: setup  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup  ## mypy --strict
	@$(BIN)/mypy

dashboards: setup  ## write the Grafana JSON anew from its code
	@$(BIN)/python -m dashboards.generate

kubernetes: setup  ## write the PrometheusRule anew from alerts/pgslot.rules.yml
	@$(BIN)/python deploy/kubernetes/generate.py

check: lint types test  ## what CI runs

clean:  ## remove what setup made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
