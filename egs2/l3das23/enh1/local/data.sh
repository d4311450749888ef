#!/usr/bin/env bash
# Stage 1: check L3DAS23 task 1 and make the data directories <data_dir>/{train,valid,test}.
# Options go to the Python command: local/data.sh --help
set -euo pipefail

python -m espnet2_tfckd.corpora.l3das23 "$@"
