# `make demo` and `make test` set up what they need by themselves; docs/install.md says how.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test search lint docs bench lock clean

ACTIVATE := source .venv/bin/activate

help:               ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

setup:              ## build .venv (quick when nothing changed)
	@scripts/setup.sh

demo: setup         ## recording -> dataset -> model -> live ROS node -> report; BAG=path takes your own recording
	@$(ACTIVATE) && pose2rgbd run $(if $(BAG),"$(BAG)") $(ARGS)

# Whole files go to a process each, so that what a file's tests share is made once.
JOBS ?= 2

test: setup         ## the default tests; SLOW=1 adds the long ones; JOBS=n processes; ARGS='-k word' goes to pytest
	@$(ACTIVATE) && python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		$(if $(SLOW),,-m "not slow and not gpu") $(ARGS)

ROUNDS ?= 10

search: setup       ## property tests with examples that were never tried; ROUNDS=n
	@$(ACTIVATE) && for round in $$(seq $(ROUNDS)); do python -m pytest -q -n $(JOBS) \
		-m "hypothesis and not slow and not gpu" --hypothesis-profile=search $(ARGS) || exit 1; done

lint: setup         ## ruff, mypy, import contracts; figures that are older than their code
	@$(ACTIVATE) && ruff check . && ruff format --check . && mypy && lint-imports && python scripts/check_figures.py

docs: setup         ## the documentation site into build/docs/html; ARGS=--external also asks other sites
	@$(ACTIVATE) && scripts/build_docs.sh $(ARGS)

BENCH ?= quick

bench: setup        ## speeds anew into bench/results/ (BENCH=full: recorders, simulator and others too; ARGS='--list')
	@$(ACTIVATE) && pose2rgbd bench $(BENCH) $(ARGS)

lock: setup         ## pin what is installed now into requirements/python.lock
	@$(ACTIVATE) && python scripts/lock.py > requirements/python.lock.new \
		&& mv requirements/python.lock.new requirements/python.lock

clean:              ## remove everything that was built
	rm -rf .venv build install log out *.egg-info underlay/*.egg-info underlay/src/*.egg-info
