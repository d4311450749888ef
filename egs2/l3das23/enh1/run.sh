#!/usr/bin/env bash
# L3DAS23 task 1: 3D speech enhancement with one or two Ambisonics microphones. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

# Options of local/data.sh; empty ones are left to their defaults there.
export corpus_options="
corpus_dir=downloads    holds the corpus' folders, at any depth
download=false          fetch them to it with the kaggle client
num_mics=1              1: microphone A, 4 channels; 2: A and B, 8 channels
training_set=both       train100, train360 or both
test_length=whole       whole utterances, or uncut: padded to 12 s as the challenge's baseline does
on_bad_file=error       error, or skip to leave out what cannot be used"

# The configurations are for 4 channels.
export corpus_enh_args="num_mics=2  --separator_conf microphones=8"

exec ../../../local/enh_kd.sh \
    --train_set train --valid_set valid --test_sets test --repeat_until 4.8 \
    --teacher_config conf/teacher.yaml \
    --student_config conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    --asr_model facebook/wav2vec2-base-960h \
    "$@"
