#!/usr/bin/env bash
# VoiceBank-DEMAND at 16 kHz, one channel. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

# Options of local/data.sh; empty ones are left to their defaults there.
export corpus_options="
corpus_dir=downloads    the corpus' four folders, or their zips
download=false          fetch missing zips to it (5.6 GB, 7 GB unpacked)
source_url=             address of a folder with the zips (default: DataShare's own)
split=espnet            espnet (26 speakers) or papers (28, validation is the test set)
allow_incomplete=false  go on with a corpus that deviates from what is distributed"

exec ../../../local/enh_kd.sh \
    --ngpu 1 --train_set train --valid_set valid --test_sets test --repeat_until 2.51 \
    --teacher_config conf/teacher.yaml \
    --student_config conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    --check_values "pesq_wb=1.97:0.02 stoi=0.921:0.003 si_sdr=8.45:0.1" \
    "$@"
