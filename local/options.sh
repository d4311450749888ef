# Stages and options of the stage driver, enh_kd.sh, which sources this. $cores is set there.
# shellcheck disable=SC2034

stages="
   1  data              local/data.sh makes <datadir>/<set>
   2  speed perturbation of the training set, if --speed_perturb_factors is given
   3  format            one rate and audio format, everything checked: dump/raw/org/<set>
   4  filter            drop short and long utterances from training: dump/raw/<set>
   5  statistics        lengths of the audio: exp/enh_stats_<fs>
   6  teacher           train it: exp/enh_<teacher_config>
   7  students          train with the teacher and, with --train_baseline, without it
   8  enhance           test sets with every model: exp/*/enhanced_<set>
   9  score             exp/RESULTS.md, exp/results.json; to see and hear: exp/report.html
  10  recognise         adds word errors to these, if --asr_model is given
  11  pack              the distilled student as a zip file
  12  export            the distilled student to ONNX, with an example
  13  publish           write what goes to the hub, if --hf_repo is given; upload with --publish true"

options="
stage=1                 first stage to run
stop_stage=13           last stage to run
nj=$cores               parallel jobs of all stages except 6 to 8
inference_nj=$cores     parallel jobs of stage 8
ngpu=0                  GPUs for training and stages 8 and 10, on each node
num_nodes=1             nodes that a training is spread over, by Slurm
cmd=local               local, or slurm: from a login node, stages 3 to 10 as jobs that wait in the queue
slurm_opts=             srun's options for all jobs: '--partition cpu --time 4:00:00'
slurm_train_opts=       srun's further options for trainings, and stages 8 and 10 with --ngpu: '--partition gpu --gres gpu:4'
datadir=data            data directories of stage 1
dumpdir=dump            data directories of stages 3 and 4
expdir=exp              experiment directories and results
fs=16k                  sampling rate
audio_format=           wav (default), flac, wav.ark or flac.ark
min_wav_duration=0.1    shortest training utterance, in seconds
max_wav_duration=30     longest training utterance, in seconds
check_values=           known scores of the noisy test set, checked after stage 4: 'pesq_wb=1.97:0.02'
repeat_until=           repeat shorter training and validation utterances: just above a chunk, in seconds
ref_channel=            reference channel, if there are several (default: 0; in stage 8 the model's)
speed_perturb_factors=  speeds of copies of the training set: '0.9 1.0 1.1'
remix_snr=              mix training speech anew at each visit, with any mixture's noise at this SNR: '-5 15'
train_set=train         name of the training set
valid_set=valid         name of the validation set
test_sets=test          names of the test sets
local_data_opts=        more options for local/data.sh
teacher_config=conf/teacher.yaml  YAML of the teacher
student_config=conf/student.yaml  YAML of the student
distill_config=         YAML of the distillation
teacher_exp=            trained teacher to use instead of stage 6
teacher_model_tag=      published teacher to use instead of stage 6: id on the hub or packed .zip
teacher_outputs=false   write the teacher's estimates of the training set once and distil from these
teacher_command=        teacher that is not an ESPnet model: 'my_enhancer {input} {output}', wav files or, as {inputs} {outputs}, folders
unlabelled_dir=         noisy recordings to train students on too, with the teacher's estimates as references
download_model=         published model to score instead of training one: id on the hub or .zip
overwrite=false         empty the directory of a training that had other data or options, and train there
train_baseline=true     also train the student without a teacher
enh_args=               more ESPnet options for every training: '--max_epoch 2'
inference_model=valid.loss.best.pth  checkpoint of each model to use
scoring_protocol=       metrics of stage 9 (default: all)
experiment_results=     results of an experiment, whose differences over seeds stage 9 shows beside its own
asr_model=              recogniser of stage 10: model on the hub or its folder, or pocketsphinx
hf_repo=                <user>/<model> of stage 13
model_license=          licence of the model for stage 13, such as cc-by-4.0
corpus_license=         licence of the corpus for stage 13, in words
publish=false           upload in stage 13"

# check_options: refuse values that do not go together.
check_options() {
    mix_at_visit=${mix_at_visit:-false} # of corpora that have it
    if [ "$mix_at_visit" = true ]; then
        remix_snr=${snr_range:--5 15}
        [ -z "$unlabelled_dir$speed_perturb_factors" ] || option_error "--mix_at_visit does not go \
with --unlabelled_dir or --speed_perturb_factors"
    fi
    local answer last two_numbers='^(-?[0-9.]+ -?[0-9.]+)?$'
    last=$(sed -n 's/^ *\([0-9]*\)  .*/\1/p' <<<"$stages" | tail -n 1)
    [ "$stage" -ge 1 ] && [ "$stage" -le "$last" ] ||
        option_error "--stage $stage: there are stages 1 to $last"
    [ "$stage" -le "$stop_stage" ] || option_error "--stage $stage is beyond --stop_stage $stop_stage"
    [ "$nj" -ge 1 ] && [ "$inference_nj" -ge 1 ] && [ "$num_nodes" -ge 1 ] ||
        option_error "--nj, --inference_nj and --num_nodes start at 1"
    [ "$cmd" = local ] || [ "$cmd" = slurm ] || option_error "--cmd is local or slurm, not '$cmd'"
    [ "$cmd" = local ] || command -v srun >/dev/null || option_error "--cmd slurm: there is no srun here"
    [ "$cmd" = local ] || answer=$(sinfo --noheader 2>&1) ||
        option_error "--cmd slurm: Slurm does not answer: $(tail -n 1 <<<"$answer")"
    [ "$cmd" = slurm ] || [ -z "$slurm_opts$slurm_train_opts" ] ||
        option_error "--slurm_opts and --slurm_train_opts go with --cmd slurm"
    [ -z "$teacher_exp" ] || [ -z "$teacher_model_tag" ] ||
        option_error "--teacher_exp and --teacher_model_tag exclude each other"
    [ -z "$teacher_command" ] || [ -z "$teacher_exp$teacher_model_tag" ] ||
        option_error "--teacher_command excludes --teacher_exp and --teacher_model_tag"
    [ -z "$teacher_command" ] || teacher_outputs=true
    [ -z "$unlabelled_dir" ] || [[ $audio_format != *.ark ]] ||
        option_error "--unlabelled_dir is for --audio_format wav or flac: a teacher's estimates are files"
    [ "$teacher_outputs" = false ] || [ -z "$remix_snr" ] ||
        option_error "--remix_snr makes other mixtures than those that a teacher enhanced once: leave \
out --teacher_outputs and --teacher_command, or --remix_snr"
    [[ $remix_snr =~ $two_numbers ]] ||
        option_error "--remix_snr takes two numbers, as in '-5 15', not '$remix_snr'"
    [ -z "$remix_snr" ] || [ -z "${rir_dir:-}" ] || [ "$mix_at_visit" = true ] ||
        option_error "--remix_snr is for mixtures that are speech plus noise, not for --rir_dir"
    [ -z "$experiment_results" ] || [ -e "$experiment_results/experiment.json" ] ||
        option_error "--experiment_results $experiment_results: there is no experiment.json in it"
    [ -n "$distill_config" ] || option_error "--distill_config is needed"
    split_words local_data_opts "$local_data_opts" # ends here if that cannot be done
    split_words slurm_opts "$slurm_opts"
    split_words slurm_train_opts "$slurm_train_opts"
}

# check_training: refuse trainings that cannot be spread over so many GPUs and nodes.
check_training() {
    local configs=(--distillation "$student_config" "$distill_config")
    [ -n "$teacher_exp$teacher_model_tag$teacher_command" ] || configs+=(--config "$teacher_config")
    [ "$train_baseline" = false ] || configs+=(--config "$student_config")
    [ "$cmd" = local ] || configs+=(--elsewhere)
    python -m espnet2_tfckd.training.ranks --ngpu "$ngpu" --num_nodes "$num_nodes" \
        --enh_args="$enh_args" "${configs[@]}" || exit 2
}

nothing_to_do() {
    option_error "no stage from $stage to $stop_stage runs with these options \
(2 needs --speed_perturb_factors, 10 --asr_model, 13 --hf_repo; 5 to 7 and 11 to 13 are left out \
with --download_model)"
}
