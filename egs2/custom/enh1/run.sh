#!/usr/bin/env bash
# Own data: pairs of mixture and reference, or speech and noise to be mixed. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

# Options of local/data.sh; empty ones are left to their defaults there.
export corpus_options="
mixture_dir=    folder of mixtures, and
reference_dir=  folder of references at the same paths;
mixture_scp=    or list of mixtures, 'id file' a line, and
reference_scp=  list of references;
speech_dir=     or folder of clean speech to mix, and
noise_dir=      folder of noise,
rir_dir=        folder of room impulse responses (optional)
snr_range=      lowest and highest SNR of what is mixed (default '-5 15')
mix_at_visit=false  mix training speech anew at each visit, so that nothing of it is written
heldout_utts=   mixtures in the validation and the test set, at most (default: all)
speaker_pattern=  regular expression that finds the speaker in a path or id (see README.md)
valid_list=     file with the validation set's speakers or recordings (default: a tenth of speakers)
test_list=      the same of the test set
seed=           seed of all choices (default 1)
on_bad_file=error  error, or skip to leave out what cannot be used"

conf=../../vctk_noisy/enh1/conf
exec ../../../local/enh_kd.sh \
    --ngpu 1 --train_set train --valid_set valid --test_sets test --repeat_until 2.51 \
    --teacher_config $conf/teacher.yaml \
    --student_config $conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    "$@"
