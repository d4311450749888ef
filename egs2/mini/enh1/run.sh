#!/usr/bin/env bash
# Mini corpus: freely licensed speech and noise from packages, mixed at 16 kHz. Options: --help
set -euo pipefail
cd "$(dirname "$0")"

test_sets=test
case " ${*//=/ } " in *" --sources extended "*) test_sets="test test_hard" ;; esac

# given NAME...: whether one of these options is given, with - or _ within its name
options=" ${*//=/ } "
options=${options//-/_}
given() {
    local name
    for name; do [[ $options != *" __$name "* ]] || return 0; done
    return 1
}

# The teacher of the experiments, and what one of them found for these very trainings over several
# seeds, unless the options ask for others.
known=()
if ! given teacher_config teacher_exp teacher_model_tag teacher_command fs inference_model; then
    known=(--teacher_exp results/teacher)
    given sources train_utts valid_utts seed student_config enh_args remix_snr speed_perturb_factors \
        unlabelled_dir || known+=(--experiment_results results/wide)
fi

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
    --teacher_config conf/teacher.yaml ${known[@]+"${known[@]}"} \
    --student_config conf/student.yaml \
    --distill_config ../../../conf/distill_i2srf_tfckd.yaml \
    "$@"
