#!/usr/bin/env bash
# Mini corpus: freely licensed speech and noise from packages, mixed at 16 kHz. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

# Options of local/data.sh; empty ones are left to their defaults there.
export corpus_options="
train_utts=     training utterances (default 400)
valid_utts=     validation utterances (default 40)
test_utts=      test utterances (default 60)
seed=           seed of the mixing (default 1)
source_dir=     folder or mirror with the packages, instead of apt and pip"

exec ../../../local/enh_kd.sh \
    --train_set train --valid_set valid --test_sets test \
    --teacher_config conf/teacher.yaml \
    --student_config conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    "$@"
