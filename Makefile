# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One thing after the other: what they print stays readable, and a measurement has the machine to itself.
.NOTPARALLEL:

.PHONY: help demo test check lint types sanity unit integration test-vm bench format setup clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## import layers, mount a stack, upgrade it, roll it back, on this machine
	@./scripts/demo

test: setup ## everything below, with all set-up; says at the end what each part took
	@.venv/bin/python scripts/test

check: setup ## for the loop while coding: lint, types, unit tests and one real stack
	@.venv/bin/python scripts/test lint types unit smoke

lint: setup ## ruff, yamllint, ansible-lint, shellcheck, licences, changelog fragments
	@./scripts/lint

types: setup ## mypy, strict
	@./scripts/types

sanity: setup ## ansible-test sanity, every test, on every Python of this machine that it supports
	@./scripts/sanity

unit: setup ## unit tests, and what they cover
	@./scripts/unit

integration: setup ## real overlays, in a mount namespace of their own; then the same stacks by the other drivers
	@.venv/bin/python scripts/test integration integration:fuse-overlayfs integration:copy

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
