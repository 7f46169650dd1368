# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One thing after the other: what they print stays readable, and a measurement has the machine to itself.
.NOTPARALLEL:

.PHONY: help demo test lint types sanity unit integration test-vm bench format setup clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## import layers, mount a stack, upgrade it, roll it back, on this machine
	@./scripts/demo

# CI ends a run after 90 minutes, and then nothing counts. On a machine so slow that the last scenarios cannot be done by
# then, they are left out, and the output says which.
test: export VM_BEGIN_UNTIL := $(shell expr $$(date +%s) + 70 \* 60)
test: lint types sanity unit integration test-vm ## everything below, with all set-up

BY_EVERY_DRIVER = $(addprefix tests/integration/test_,stacks.py switch.py health.py mount_helper.py prune.py check.py)

lint: setup ## ruff, yamllint, ansible-lint, shellcheck, licences, changelog fragments
	@./scripts/lint

types: setup ## mypy, strict
	@./scripts/types

sanity: setup ## ansible-test sanity, every test, on every Python of this machine that it supports
	@./scripts/sanity

unit: setup ## unit tests
	@.venv/bin/pytest --numprocesses auto tests/unit

integration: export LANES ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
integration: setup ## real overlays, in a mount namespace of their own; then the same stacks by the other drivers
	@./scripts/integration
	@DRIVER=fuse-overlayfs ./scripts/integration $(BY_EVERY_DRIVER) tests/integration/test_commit.py
	@DRIVER=copy ./scripts/integration $(BY_EVERY_DRIVER)

test-vm: setup ## molecule scenarios in virtual machines; SCENARIO=default runs one of them
	@./scripts/vm $(SCENARIO)

bench: setup ## measure against the same job written by hand
	@./tests/bench/run

format: setup ## format all Python code
	@.venv/bin/ruff check --quiet --select ISC # what the formatter would change the meaning of
	@.venv/bin/ruff check --quiet --select I --fix
	@.venv/bin/ruff format

setup: ## build .venv; as root also install the Debian packages that tests need
	@./scripts/setup --packages

clean: ## remove what make has made
	@if [ -d .cache/vm ] && [ -x .venv/bin/python ]; then ./scripts/vm --down; fi
	rm -rf --one-file-system .venv .venv-vm .cache .demo .ansible .hypothesis tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
