#!/usr/bin/env bash
# Stage 1: list, check and divide a DNS Challenge: <data_dir>/{train,train_noise,train_rooms,valid,test}.
# Options go to the Python command: local/data.sh --help
set -euo pipefail

python -m espnet2_tfckd.corpora.dns "$@"
