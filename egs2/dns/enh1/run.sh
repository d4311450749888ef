#!/usr/bin/env bash
# DNS Challenge: hundreds of hours, mixed at each visit and not on disk. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

# Options of local/data.sh; empty ones are left to their defaults there.
export corpus_options="
dns_dir=        folder into which the challenge was downloaded (needed)
subsets=        folders of speech (default: read_speech), such as 'read_speech german_speech'
hours=          hours of training speech that are drawn (default: all)
rooms=true      whether half of the training speech is put into rooms, if there are responses
snr_range=      lowest and highest SNR of what is mixed (default '-5 20')
heldout_utts=   mixtures of the validation set, and of a test set that is mixed here (default 400)
seed=           seed of all choices (default 1)
on_bad_file=skip  skip what cannot be used, or error"
export mix_at_visit=true
# an epoch visits 2,000 recordings
export corpus_enh_args="
mix_at_visit=true  --num_iters_per_epoch 2000
rooms=true         --rir_apply_prob 0.5"

conf=../../vctk_noisy/enh1/conf
exec ../../../local/enh_kd.sh \
    --ngpu 1 --train_set train --valid_set valid --test_sets test \
    --repeat_until 2.51 --max_wav_duration 120 --snr_range "-5 20" \
    --teacher_config $conf/teacher.yaml \
    --student_config $conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    "$@"
