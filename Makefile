SHELL := /bin/bash

.PHONY: setup test lint bench

setup:
	@local/setup.sh

test: setup
	@. local/path.sh && python -m pytest -q

lint: setup
	@. local/path.sh && python -m ruff check . && python -m ruff format --check .

bench: setup
	@. local/path.sh && python -m tests.bench
