#!/usr/bin/env bash
# Mini corpus: freely licensed speech and noise from packages, mixed at 16 kHz. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

test_sets=test
case " ${*//=/ } " in *" --sources extended "*) test_sets="test test_hard" ;; esac

# The teacher of the experiments, unless the options ask for another one.
teacher=(--teacher_exp results/teacher)
case " ${*//=/ } " in *" --teacher_"* | *" --fs "* | *" --inference_model "*) teacher=() ;; esac

# Options of local/data.sh; empty ones are left to their defaults there.
export corpus_options="
sources=default  default, or extended: ten times the training speech and a harder test (1 GB to fetch)
train_utts=     training utterances (default 1100; extended: all, 3850)
valid_utts=     validation utterances (default 70)
test_utts=      test utterances (default 60)
test_hard_utts=  utterances of the harder test set (extended only; default 120)
seed=           seed of the mixing (default 1)
source_dir=     folder or mirror with the packages, instead of apt and pip"

exec ../../../local/enh_kd.sh \
    --train_set train --valid_set valid --test_sets "$test_sets" \
    --teacher_config conf/teacher.yaml ${teacher[@]+"${teacher[@]}"} \
    --student_config conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    --experiment_results results/wide \
    "$@"
