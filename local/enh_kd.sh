#!/usr/bin/env bash
# The stage driver of all recipes; runs in a recipe's directory. Its work is done in Python.
# A recipe adds options of its local/data.sh in the table $corpus_options.
set -euo pipefail

driver=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$driver/parse_options.sh"
cores=$(nproc)

stages="
   1  data              local/data.sh makes <datadir>/<set>
   2  speed perturbation of the training set, if --speed_perturb_factors is given
   3  format            one rate and audio format, everything checked: dump/raw/org/<set>
   4  filter            drop short and long utterances from training: dump/raw/<set>
   5  statistics        lengths of the audio: exp/enh_stats_<fs>
   6  teacher           train it: exp/enh_<teacher_config>
   7  students          train with the teacher and, with --train_baseline, without it
   8  enhance           test sets with every model: exp/*/enhanced_<set>
   9  score             exp/RESULTS.md, exp/results.json
  10  reserved (scoring by speech recognition)
  11  pack              the distilled student as a zip file
  12  export            the distilled student to ONNX, with an example
  13  reserved (publishing)"

options="
stage=1                 first stage to run
stop_stage=13           last stage to run
skip_data_prep=false    leave out stages 1 to 4
skip_train=false        leave out stages 5 to 7
skip_eval=false         leave out stages 8 and 9
nj=$cores               parallel jobs of all stages but 6 to 8
inference_nj=$cores     parallel jobs of stage 8
ngpu=0                  GPUs for training and stage 8
datadir=data            data directories of stage 1
dumpdir=dump            formatted data
expdir=exp              experiments
fs=16k                  sampling rate
audio_format=wav        wav, flac, wav.ark or flac.ark
min_wav_duration=0.1    of training utterances, in seconds
max_wav_duration=30     of training utterances, in seconds
check_values=           known scores of the noisy test set, checked after stage 4: 'pesq_wb=1.97:0.02'
repeat_until=0.0        repeat shorter training and validation utterances: just above a chunk, in seconds
ref_channel=            reference channel of several (default: 0, in stage 8 the model's)
speed_perturb_factors=  such as '0.9 1.0 1.1'
train_set=train         name of the training set
valid_set=valid         name of the validation set
test_sets=test          names of the test sets
local_data_opts=        more options for local/data.sh
teacher_config=conf/teacher.yaml  teacher
student_config=conf/student.yaml  student
distill_config=         distillation
teacher_exp=            trained teacher to use instead of stage 6
teacher_model_tag=      published teacher instead: id on the hub or packed .zip
train_baseline=true     also train the student without a teacher
enh_args=               more ESPnet options for every training: '--max_epoch 2'
inference_model=valid.loss.best.pth  checkpoint to use of each model
scoring_protocol=       metrics of stage 9 (default: all)"

show_help() {
    printf '\nStages:%s\n\nOptions, here with the values of this recipe:\n' "$stages"
    show_options "$options"
    if [ -n "${corpus_options:-}" ]; then
        printf '\nOptions of this corpus:\n'
        show_options "$corpus_options"
    fi
    printf '\nPaths are relative to %s.\n' "$PWD"
}

all_options=$options$'\n'${corpus_options:-}
declare_options "$all_options"
parse_options "$all_options" "$@"
[ "$stage" -le "$stop_stage" ] || option_error "--stage $stage is beyond --stop_stage $stop_stage"
[ "$nj" -ge 1 ] && [ "$inference_nj" -ge 1 ] || option_error "--nj and --inference_nj start at 1"
[ -z "$teacher_exp" ] || [ -z "$teacher_model_tag" ] ||
    option_error "--teacher_exp and --teacher_model_tag exclude each other"
[ -n "$distill_config" ] || option_error "--distill_config is needed"
if [ "$help" = true ]; then
    show_help
    exit
fi

. "$driver/path.sh"
if [ "$TFCKD_PYTHON_OK" != true ]; then
    echo "error: no Python environment with everything needed: run 'make setup' in $tfckd_root" >&2
    exit 1
fi

# --- names
experiment() { basename "${1%.yaml}"; }
data_feats=$dumpdir/raw
stats_dir=$expdir/enh_stats_$fs
student=$(experiment "$student_config")
distilled=${student}_$(experiment "$distill_config")
teacher_dir=${teacher_exp:-$expdir/enh_$(experiment "$teacher_config")}
if [ -n "$teacher_model_tag" ]; then
    teacher_dir=$(basename "${teacher_model_tag%.zip}")
    teacher_dir=$expdir/enh_${teacher_dir#enh_}
fi
teacher=$(basename "$teacher_dir") && teacher=${teacher#enh_}
train_set_used=$train_set${speed_perturb_factors:+_sp}
channel_options=(${ref_channel:+--ref_channel "$ref_channel"})
model_dirs=("$teacher_dir")
[ "$train_baseline" = false ] || model_dirs+=("$expdir/enh_$student")
model_dirs+=("$expdir/enh_$distilled")

# --- running stages
current=
log=
finish() {
    local status=$? what="failed (status $?)" remedy="Mend what is named above, then go on"
    [ $status -lt 128 ] || what="was interrupted" remedy="Go on"
    [ $status -eq 0 ] || [ -z "$current" ] || printf '%s\n' "" \
        "Stage $current $what; its log: $PWD/$log" \
        "$remedy with the same command and --stage ${current%% *}" >&2
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

is_wanted() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] && [ "$2" = false ]; }

# run_stage NUMBER SKIP FUNCTION TITLE: run a stage that is asked for, with its output logged.
run_stage() {
    is_wanted "$1" "$2" || return 0
    current="$1 ($4)" log=$expdir/log/stage$1.log
    mkdir -p "$expdir/log"
    printf '\n=== Stage %s: %s\n' "$1" "$4"
    "$3" 2>&1 | tee "$log"
    current=
}

stage_module() { python -m "espnet2_tfckd.stages.$1" "${@:2}"; }

# use_cores JOBS: share the cores out among that many jobs.
use_cores() {
    local threads=$((cores / $1))
    export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
}

# --- the stages
prepare_data() {
    local name options=(--data_dir "$datadir")
    while read -r name _; do
        name=${name%%=*}
        [ -z "$name" ] || [ -z "${!name}" ] || options+=("--$name" "${!name}")
    done <<<"${corpus_options:-}"
    # options in one string, quoted as in a shell
    eval "options+=($local_data_opts)"
    local/data.sh "${options[@]}"
}

perturb_speed() {
    stage_module speed_perturb --factors "$speed_perturb_factors" --nj "$nj" \
        "$datadir/$train_set" "$datadir/$train_set_used"
}

format() {
    local name options=(--fs "$fs" --audio_format "$audio_format" --nj "$nj" "${channel_options[@]}")
    for name in $train_set_used $valid_set; do
        stage_module format "${options[@]}" --repeat_until "$repeat_until" \
            "$datadir/$name" "$data_feats/org/$name"
    done
    for name in $test_sets; do
        stage_module format "${options[@]}" "$datadir/$name" "$data_feats/$name"
    done
}

filter() {
    local name
    for name in $train_set_used $valid_set; do
        stage_module filter --min_wav_duration "$min_wav_duration" \
            --max_wav_duration "$max_wav_duration" "$data_feats/org/$name" "$data_feats/$name"
    done
    [ -z "$check_values" ] || check_test_set
}

# check_test_set: the first one's scores, before a training is spent on wrong data.
check_test_set() {
    local name=${test_sets%% *}
    stage_module check_values --data_dir "$data_feats/$name" --dataset "$name" \
        --results "$expdir" --known "$check_values" --nj "$nj" "${channel_options[@]}"
}

data_options=(--train_dir "$data_feats/$train_set_used" --valid_dir "$data_feats/$valid_set"
    --stats_dir "$stats_dir" --audio_format "$audio_format")

collect_stats() { stage_module collect_stats "${data_options[@]}"; }

train() {
    stage_module train "${data_options[@]}" --ngpu "$ngpu" --inference_model "$inference_model" \
        --enh_args="$enh_args" "$@"
}

train_teacher() {
    if [ -n "$teacher_exp" ]; then
        echo "using the trained teacher $teacher_exp"
    elif [ -n "$teacher_model_tag" ]; then
        stage_module fetch_model --model_tag "$teacher_model_tag" --exp_dir "$teacher_dir" \
            --inference_model "$inference_model"
    else
        train --config "$teacher_config" --exp_dir "$teacher_dir"
    fi
}

train_undistilled() { train --config "$student_config" --exp_dir "$expdir/enh_$student"; }

train_distilled() {
    train --config "$student_config" --exp_dir "$expdir/enh_$distilled" \
        --distill_config "$distill_config" --teacher_exp "$teacher_dir"
}

train_students() {
    if [ "$train_baseline" = false ]; then
        train_distilled
    elif [ "$ngpu" -gt 0 ] || [ "$cores" -lt 2 ]; then
        train_undistilled
        train_distilled
    else # side by side, each on its half of the cores
        use_cores 2
        trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
        train_undistilled &
        train_distilled &
        local status=0
        wait -n || status=$?
        wait -n || status=$?
        return $status
    fi
}

enhance() {
    local name model_dir
    for model_dir in "${model_dirs[@]}"; do
        for name in $test_sets; do
            stage_module enhance --exp_dir "$model_dir" --inference_model "$inference_model" \
                --data_dir "$data_feats/$name" --output_dir "$model_dir/enhanced_$name" \
                --nj "$inference_nj" --ngpu "$ngpu" --fs "${fs/%k/000}" \
                "${channel_options[@]}"
        done
    done
}

score() {
    local name model_dir system systems
    for name in $test_sets; do
        systems=(--system "noisy=$data_feats/$name/wav.scp")
        for model_dir in "${model_dirs[@]}"; do
            system=$(basename "$model_dir")
            systems+=(--system "${system#enh_}=$model_dir/enhanced_$name/spk1.scp")
        done
        stage_module score --data_dir "$data_feats/$name" --dataset "$name" "${systems[@]}" \
            --results "$expdir" --nj "$nj" "${channel_options[@]}" \
            ${scoring_protocol:+--scoring_protocol "$scoring_protocol"}
    done
}

pack() {
    local exp_dir=$expdir/enh_$distilled
    stage_module pack --exp_dir "$exp_dir" --inference_model "$inference_model" \
        --outfile "$exp_dir/enh_${distilled}_${inference_model%.*}.zip" --results "$expdir/RESULTS.md"
}

export_onnx() {
    local exp_dir=$expdir/enh_$distilled
    if grep -q '^separator: dpdcrn' "$exp_dir/config.yaml"; then
        stage_module export --exp_dir "$exp_dir" --inference_model "$inference_model"
    else
        echo "not exported: only DPDCRN can be"
    fi
}

echo "Recipe: $PWD (paths below are relative to it)"
use_cores "$nj"
run_stage 1 "$skip_data_prep" prepare_data "data preparation"
if [ -n "$speed_perturb_factors" ]; then
    run_stage 2 "$skip_data_prep" perturb_speed "speed perturbation ($speed_perturb_factors)"
fi
run_stage 3 "$skip_data_prep" format "format $audio_format at $fs"
run_stage 4 "$skip_data_prep" filter "filter by duration"
use_cores 1
run_stage 5 "$skip_train" collect_stats "statistics"
run_stage 6 "$skip_train" train_teacher "training of the teacher ($teacher_dir)"
run_stage 7 "$skip_train" train_students "training of the students (${model_dirs[*]:1})"
use_cores "$inference_nj"
run_stage 8 "$skip_eval" enhance "enhancement of $test_sets"
use_cores "$nj"
run_stage 9 "$skip_eval" score "scoring of $test_sets"
run_stage 11 false pack "packing of the distilled student"
run_stage 12 false export_onnx "export of the distilled student"
printf '\nDone in %d min %d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
