SHELL := /bin/bash

.PHONY: setup test test-recipes test-slurm lint docs bench bench-peers

# options: make setup TORCH=cpu
setup:
	@local/setup.sh $(if $(TORCH),--torch "$(TORCH)")

# files of tests at a time, a process and a thread each: make test JOBS=1
JOBS ?= auto

PYTEST = . local/path.sh && export OMP_NUM_THREADS=1 && \
	python -m pytest -q -n $(JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup
	@$(PYTEST)

# the recipes of the other corpora end to end, on made-up data
test-recipes: setup
	@$(PYTEST) -m recipes

# a recipe on a real Slurm of two pretended nodes, which is started here; as root
test-slurm: setup
	@$(PYTEST) -n 0 -m slurm

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
