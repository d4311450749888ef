SHELL := /bin/bash

.PHONY: setup test test-recipes lint docs bench bench-peers

# options: make setup TORCH=cpu
setup:
	@local/setup.sh $(if $(TORCH),--torch "$(TORCH)")

test: setup
	@. local/path.sh && python -m pytest -q

# the recipes of the other corpora end to end, on made-up data
test-recipes: setup
	@. local/path.sh && python -m pytest -q -m recipes

lint: setup
	@. local/path.sh && python -m ruff check . && python -m ruff format --check .

# the Python API as pages: build/docs/espnet2_tfckd.html; a warning fails it
docs: setup
	@. local/path.sh && python -W error::UserWarning -m pdoc --docformat google --output-directory build/docs \
		espnet2_tfckd '!espnet2_tfckd.__main__' && echo "build/docs/espnet2_tfckd.html"

bench: setup
	@. local/path.sh && python -m tests.benchmarks.training_cost

# options: make bench-peers ARGS='--student_exp DIR'
bench-peers: setup
	@. local/path.sh && python -m tests.benchmarks.causal_peers $(ARGS)
