#!/usr/bin/env bash
# Stage 1: check VoiceBank-DEMAND and make the data directories <data_dir>/{train,valid,test}.
# Options go to the Python command: local/data.sh --help
set -euo pipefail

python -m espnet2_tfckd.corpora.vctk_noisy "$@"
