#!/usr/bin/env bash
# The stage driver of all recipes; runs in a recipe's directory. Its work is done in Python.
# A recipe adds options of its local/data.sh in the table $corpus_options, and in $corpus_enh_args
# the ESPnet options that follow from these, a line each: "name=value   ESPnet's options".
set -euo pipefail

driver=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$driver/parse_options.sh"
cores=$(count_cores)

. "$driver/options.sh"

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
check_options
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
student=$(experiment "$student_config")
distilled=${student}_$(experiment "$distill_config")
teacher_dir=$expdir/enh_$(experiment "$teacher_config")
# system_of DIR: what the tables call the model of an experiment directory
system_of() { basename "$1" | sed 's/^enh_//'; }
# published_dir TAG: experiment directory of a published model
published_dir() { echo "$expdir/enh_$(system_of "${1%.zip}")"; }
[ -z "$teacher_model_tag" ] || teacher_dir=$(published_dir "$teacher_model_tag")
if [ -n "$teacher_exp" ]; then # nothing is written outside of $expdir
    teacher_dir=$expdir/enh_given_$(system_of "$teacher_exp")
    [ ! "$(dirname "$teacher_exp")" -ef "$expdir" ] || teacher_dir=$teacher_exp
fi
teacher=$(system_of "$teacher_dir")
# such as the number of channels, which corpus and networks must agree on
while read -r condition arguments; do
    name=${condition%%=*}
    [ -z "$name" ] || [ "${!name}" != "${condition#*=}" ] || enh_args="$arguments $enh_args"
done <<<"${corpus_enh_args:-}"
train_set_used=$train_set${speed_perturb_factors:+_sp}
unlabelled= students_set=$train_set_used # what the students are trained on
[ -z "$unlabelled_dir" ] || unlabelled=unlabelled students_set=${train_set_used}_unlabelled
students=("$expdir/enh_$distilled")
[ "$train_baseline" = false ] || students=("$expdir/enh_$student" "${students[@]}")
outputs=$expdir/outputs_${teacher}
[ ! "$teacher_dir" -ef "$expdir/enh_$distilled" ] ||
    option_error "the teacher $teacher_dir lies where this distillation's student goes: give another --expdir"
model_dirs=("$teacher_dir")
for name in "${students[@]}"; do
    [ "$name" -ef "$teacher_dir" ] || model_dirs+=("$name")
done
if [ -n "$teacher_command" ]; then
    teacher= outputs=$expdir/outputs_command
    model_dirs=("${students[@]}")
fi

[ -z "$download_model" ] || model_dirs=("$(published_dir "$download_model")")

# --- running stages
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac }
stages_run=0
current=
log=
finish() {
    local status=$? what="failed (status $?)" remedy="Fix what is named above, then go on"
    [ $status -lt 128 ] || what="was interrupted" remedy="Go on"
    [ $status -eq 0 ] || [ -z "$current" ] || printf '%s\n' "" \
        "Stage $current $what; its log: $(absolute "$log")" \
        "$remedy with the same command and --stage ${current%% *}" >&2
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# run_stage NUMBER FUNCTION TITLE: run a stage that is asked for, with its output logged.
run_stage() {
    [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] || return 0
    current="$1 ($3)" log=$expdir/log/stage$1.log
    stages_run=$((stages_run + 1))
    mkdir -p "$expdir/log"
    printf '\n=== Stage %s: %s\n' "$1" "$3"
    printf '\n=== %s\n' "$(date)" >>"$log" # a second run, which is refused, may write there too
    "$2" 2>&1 | tee -a "$log"
    current=
}

job=() # what starts the process of a stage that may run on another machine
slurm_train=()
if [ "$cmd" = slurm ]; then
    for name in ${!SLURM_@}; do # of an allocation that this runs in: jobs have their own
        [ "$name" = SLURM_CONF ] || unset "$name"
    done
    split_words slurm_train_opts "$slurm_opts $slurm_train_opts"
    slurm_train=(${words[@]+"${words[@]}"})
fi

here() { python -m "espnet2_tfckd.stages.$1" "${@:2}"; }
stage_module() { ${job[@]+"${job[@]}"} python -m "espnet2_tfckd.stages.$1" "${@:2}"; }

# use_cores JOBS: share the cores out among that many jobs.
use_cores() {
    local threads=$((cores / $1))
    export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
    [ "$cmd" = slurm ] || return 0
    split_words slurm_opts "$slurm_opts"
    job=(srun --quit-on-interrupt --ntasks=1 --cpus-per-task="$1" ${words[@]+"${words[@]}"})
    OMP_NUM_THREADS=1
}

# use_gpus: those of trainings, in this (sub)shell.
use_gpus() {
    [ "$cmd" = local ] || [ "$ngpu" -eq 0 ] ||
        job=(${job[@]+"${job[@]}"} ${slurm_train[@]+"${slurm_train[@]}"})
}

# --- the stages
prepare_data() {
    local name options=(--data_dir "$datadir")
    while read -r name _; do
        name=${name%%=*}
        [ -z "$name" ] || [ -z "${!name}" ] || options+=("--$name" "${!name}")
    done <<<"${corpus_options:-}"
    split_words local_data_opts "$local_data_opts"
    local/data.sh "${options[@]}" ${words[@]+"${words[@]}"}
    [ -z "$unlabelled" ] || python -m espnet2_tfckd.corpora.unlabelled --nj "$nj" \
        --unlabelled_dir "$unlabelled_dir" --data_dir "$datadir/$unlabelled"
}

perturb_speed() {
    stage_module speed_perturb --factors "$speed_perturb_factors" --nj "$nj" \
        "$datadir/$train_set" "$datadir/$train_set_used"
}

format() {
    local name options=(--fs "$fs" --nj "$nj"
        ${audio_format:+--audio_format "$audio_format"}
        ${ref_channel:+--ref_channel "$ref_channel"})
    if [ "$mix_at_visit" = true ]; then
        for name in "${train_set}_noise" "${train_set}_rooms"; do
            rm -f "$data_feats/org/$name/spk1.scp"
            [ ! -e "$datadir/$name" ] || stage_module format "${options[@]}" --mono \
                --audio_format "$(file_format)" "$datadir/$name" "$data_feats/org/$name"
        done
    fi
    for name in $train_set_used $valid_set ${unlabelled:+$unlabelled/recordings}; do
        local mono=
        [ "$mix_at_visit $name" != "true $train_set_used" ] || mono=--mono
        stage_module format "${options[@]}" ${repeat_until:+--repeat_until "$repeat_until"} $mono \
            "$datadir/$name" "$data_feats/org/${name%/recordings}"
    done
    for name in $test_sets; do
        stage_module format "${options[@]}" "$datadir/$name" "$data_feats/$name"
    done
}

filter() {
    local name
    for name in $train_set_used $valid_set $unlabelled; do
        stage_module filter --min_wav_duration "$min_wav_duration" \
            --max_wav_duration "$max_wav_duration" "$data_feats/org/$name" "$data_feats/$name"
    done
    extract_noise "$train_set_used"
    [ -z "$check_values" ] || check_test_set
}

# file_format: noise and rooms are not read from archives.
file_format() { echo "${audio_format%.ark}" | sed 's/^$/wav/'; }

# extract_noise SET: the noises that --remix_snr mixes anew.
extract_noise() {
    local org=$data_feats/org/${train_set}
    if [ "$mix_at_visit" = true ]; then
        cp "${org}_noise/spk1.scp" "$data_feats/$1/noise.scp"
        rm -f "$data_feats/$1/rir.scp"
        [ ! -e "${org}_rooms/spk1.scp" ] || cp "${org}_rooms/spk1.scp" "$data_feats/$1/rir.scp"
    elif [ -n "$remix_snr" ]; then
        stage_module extract_noise --nj "$nj" "$data_feats/$1"
    fi
}

# mixing_options SET: ESPnet's options that mix its speech anew at each visit.
mixing_options() {
    local set=$data_feats/$1
    [ -n "$remix_snr" ] || return 0
    printf '%s' "--preprocessor enh --noise_scp $(printf %q "$set/noise.scp") " \
        "--noise_db_range=${remix_snr/ /_} "
    [ "$mix_at_visit" = false ] || [ ! -e "$set/rir.scp" ] ||
        printf '%s' "--force_single_channel true --rir_scp $(printf %q "$set/rir.scp") "
}

# check_test_set: the first one's scores, before a training is spent on wrong data.
check_test_set() {
    local name=${test_sets%% *}
    stage_module check_values --data_dir "$data_feats/$name" --dataset "$name" \
        --results "$expdir" --known "$check_values" --nj "$nj" \
        ${ref_channel:+--ref_channel "$ref_channel"}
}

# use_set SET: put the options that name its data into $data_options.
use_set() {
    local stats_dir=$expdir/enh_stats_$fs${1#"$train_set_used"}
    data_options=(--train_dir "$data_feats/$1" --valid_dir "$data_feats/$valid_set"
        --stats_dir "$stats_dir")
}

# collect_stats SET
collect_stats() {
    local data_options
    use_set "$1"
    stage_module collect_stats "${data_options[@]}" --nj "$nj"
}

collect_training_stats() { collect_stats "$train_set_used"; }

# train SET OPTION...
train() {
    local data_options options=(--fs "$fs") arguments
    use_set "$1"
    arguments="$(mixing_options "$1")$enh_args"
    [ "$overwrite" = false ] || options+=(--overwrite)
    [ "$cmd" = local ] || options+=(--slurm "${slurm_train[*]-}")
    here train "${data_options[@]}" ${audio_format:+--audio_format "$audio_format"} \
        --ngpu "$ngpu" --num_nodes "$num_nodes" --inference_model "$inference_model" \
        --enh_args="$arguments" "${options[@]}" "${@:2}"
}

# fetch OPTION SOURCE DIR: lay a model from elsewhere out as if it had been trained here.
fetch() { here fetch_model "$1" "$2" --exp_dir "$3" --inference_model "$inference_model"; }

train_teacher() {
    if [ -n "$teacher_command" ]; then
        echo "the teacher is a command: $teacher_command"
    elif [ -n "$teacher_model_tag" ]; then
        fetch --model_tag "$teacher_model_tag" "$teacher_dir"
    elif [ "${teacher_exp:-$teacher_dir}" != "$teacher_dir" ]; then
        fetch --from_exp "$teacher_exp" "$teacher_dir"
    elif [ -n "$teacher_exp" ]; then
        echo "using the trained teacher $teacher_exp"
    else
        train "$train_set_used" --config "$teacher_config" --exp_dir "$teacher_dir"
    fi
}

# write_teacher_outputs SET: the teacher's estimates of it.
write_teacher_outputs() {
    local source=(--model "$teacher_dir")
    [ -z "$teacher_command" ] || source=(--command "$teacher_command")
    stage_module teacher_outputs --data_dir "$data_feats/$1" \
        --output_dir "${outputs}_$1" --nj "$cores" "${source[@]}"
}

# join_unlabelled: recordings become training data, with the teacher's estimates as references.
join_unlabelled() {
    write_teacher_outputs "$unlabelled"
    here join_unlabelled --train_dir "$data_feats/$train_set_used" \
        --unlabelled_dir "$data_feats/$unlabelled" \
        --estimates "${outputs}_$unlabelled/teacher.scp" --out_dir "$data_feats/$students_set"
    extract_noise "$students_set"
    collect_stats "$students_set"
}

prepare_teacher() {
    train_teacher
    [ -z "$unlabelled" ] || join_unlabelled
    [ "$teacher_outputs" = false ] || write_teacher_outputs "$students_set"
}

train_undistilled() {
    train "$students_set" --config "$student_config" --exp_dir "$expdir/enh_$student"
}

train_distilled() {
    local teacher_options=(--teacher_exp "$teacher_dir")
    [ "$teacher_outputs" = false ] ||
        teacher_options=(--teacher_outputs "${outputs}_$students_set/teacher.scp")
    train "$students_set" --config "$student_config" --exp_dir "$expdir/enh_$distilled" \
        --distill_config "$distill_config" "${teacher_options[@]}"
}

train_students() {
    if [ "$train_baseline" = false ]; then
        train_distilled
    elif [ "$cmd" = local ] && { [ "$((ngpu + num_nodes))" -gt 1 ] || [ "$cores" -lt 2 ]; }; then
        train_undistilled
        train_distilled
    else # side by side, each on its half of the cores, or as a job of its own
        [ "$cmd" = slurm ] || use_cores 2
        trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
        train_undistilled &
        local status=0 undistilled=$!
        train_distilled &
        wait $! || status=$?
        wait $undistilled || status=$?
        return $status
    fi
}

# enhance_set MODEL_DIR SET
enhance_set() {
    stage_module enhance --exp_dir "$1" --inference_model "$inference_model" \
        --data_dir "$data_feats/$2" --output_dir "$1/enhanced_$2" \
        --nj "$inference_nj" --ngpu "$ngpu" --fs "$fs" \
        ${ref_channel:+--ref_channel "$ref_channel"}
}

enhance() {
    local name model_dir pid pids=() status=0
    [ -z "$download_model" ] || fetch --model_tag "$download_model" "${model_dirs[0]}"
    use_gpus
    for model_dir in "${model_dirs[@]}"; do
        for name in $test_sets; do
            if [ "$cmd" = slurm ]; then # all at once, as far as there are nodes
                enhance_set "$model_dir" "$name" &
                pids+=($!)
            else
                enhance_set "$model_dir" "$name"
            fi
        done
    done
    for pid in ${pids[@]+"${pids[@]}"}; do
        wait "$pid" || status=$?
    done
    return $status
}

# score_test_sets STAGE OPTION...: run a stage that scores all systems on every test set.
score_test_sets() {
    local name model_dir systems
    for name in $test_sets; do
        systems=(--system "noisy=$data_feats/$name/wav.scp")
        for model_dir in "${model_dirs[@]}"; do
            systems+=(--system "$(system_of "$model_dir")=$model_dir/enhanced_$name/spk1.scp")
        done
        stage_module "$1" --data_dir "$data_feats/$name" --dataset "$name" "${systems[@]}" \
            --results "$expdir" --nj "$nj" ${ref_channel:+--ref_channel "$ref_channel"} "${@:2}"
    done
}

report() {
    local name model_dir options=(--results "$expdir")
    for name in $test_sets; do
        options+=(--test_set "$name=$data_feats/$name")
    done
    for model_dir in "${model_dirs[@]}"; do
        options+=(--model "$(system_of "$model_dir")=$model_dir")
    done
    here report "${options[@]}" ${ref_channel:+--ref_channel "$ref_channel"}
}

score() {
    local compare=()
    if [ -z "$download_model" ] && [ "$train_baseline" = true ]; then
        compare=(--compare "$distilled" "$student")
        [ -z "$experiment_results" ] ||
            compare+=(--over_seeds "${distilled#"${student}_distill_"}=$experiment_results")
    fi
    score_test_sets score ${compare[@]+"${compare[@]}"} \
        ${scoring_protocol:+--scoring_protocol "$scoring_protocol"}
    report
}

recognise() {
    use_gpus
    score_test_sets asr_score --asr_model "$asr_model" --ngpu "$ngpu"
    report
}

distilled_dir=$expdir/enh_$distilled
packed=$distilled_dir/enh_${distilled}_${inference_model%.*}.zip

pack() {
    here pack --exp_dir "$distilled_dir" --inference_model "$inference_model" \
        --outfile "$packed" --results "$expdir/RESULTS.md"
}

publish() {
    local test_set=${test_sets%% *} upload=
    [ "$publish" = false ] || upload=--upload
    here publish --repo_id "$hf_repo" --exp_dir "$distilled_dir" --packed "$packed" \
        --results "$expdir/results.json" --license "$model_license" --teacher "$teacher" \
        --corpus "$(basename "$(dirname "$PWD")")" --corpus_license "$corpus_license" \
        --data_dir "$data_feats/$test_set" --enhanced_dir "$distilled_dir/enhanced_$test_set" \
        $upload
}

export_onnx() {
    if grep -q '^separator: dpdcrn' "$distilled_dir/config.yaml"; then
        here export --exp_dir "$distilled_dir" --inference_model "$inference_model" \
            ${model_license:+--license "$model_license"}
    else
        echo "not exported: only DPDCRN can be"
    fi
}

if [ "$((ngpu + num_nodes))" -gt 1 ] && [ "$stage" -le 8 ] && [ "$stop_stage" -ge 6 ]; then
    check_training # before any work is done
fi
echo "Recipe: $PWD (paths below are relative to it)"
use_cores "$nj"
run_stage 1 prepare_data "data preparation"
if [ -n "$speed_perturb_factors" ]; then
    run_stage 2 perturb_speed "speed perturbation ($speed_perturb_factors)"
fi
run_stage 3 format "format at $fs"
run_stage 4 filter "filter by duration"
if [ -z "$download_model" ]; then
    use_cores "$nj"
    run_stage 5 collect_training_stats "statistics"
    use_cores 1
    run_stage 6 prepare_teacher "training of the teacher (${teacher_command:-$teacher_dir})"
    run_stage 7 train_students "training of the students (${students[*]})"
fi
use_cores "$inference_nj"
run_stage 8 enhance "enhancement of $test_sets"
use_cores "$nj"
run_stage 9 score "scoring of $test_sets"
if [ -n "$asr_model" ]; then
    use_cores 1
    run_stage 10 recognise "scoring of $test_sets by $asr_model"
fi
if [ -z "$download_model" ]; then
    run_stage 11 pack "packing of the distilled student"
    run_stage 12 export_onnx "export of the distilled student"
    if [ -n "$hf_repo" ]; then
        run_stage 13 publish "publishing of the distilled student"
    fi
fi
[ "$stages_run" -gt 0 ] || nothing_to_do
printf '\nDone in %d min %d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
