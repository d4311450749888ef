#!/usr/bin/env bash
# Does distillation improve the student? All arms of an experiment, resumable. Options: --help
set -euo pipefail
cd "$(dirname "$0")"
. ../../../local/parse_options.sh

options="
config=conf/experiment.yaml  the experiment; jobs go to exp/<its name>
arms=           only these of its arms: 'none i2srf_tfckd' (default: all)
seeds=          only these seeds: '1 2' (default: all)
time_limit=     minutes after which no job is started any more; the same command goes on
nj=$(count_cores)            jobs at a time, one thread each
cmd=local       local, or slurm: every job as one of Slurm's
slurm_opts=     srun's options for these: '--partition cpu --time 4:00:00'
teacher_exp=    experiment directory of a trained teacher (default: train one)
take_over=false go on from the runs that are in <results>, with the teacher that lies there
keep_audio=false  keep the enhanced audio of every run
data=experiment  name of the data, which are kept in data/<it> and dump/<it>
results=results  folder of experiment.{json,md,png} and utterances.csv
recipe_opts=    more options for ./run.sh, which prepares the data"
declare_options "$options"
parse_options "$options" "$@"
if [ "$help" = true ]; then
    printf '\nOptions:\n'
    show_options "$options"
    exit
fi

# Data of their own, as the default recipe mixes other sizes. The training set's noises are written
# for arms that name them as --noise_scp.
expdir=exp/$(basename "${config%.yaml}")
split_words recipe_opts "$recipe_opts"
./run.sh --stop_stage 5 --datadir "data/$data" --dumpdir "dump/$data" \
    --expdir "$expdir" --test_utts 240 --remix_snr "-5 15" \
    ${words[@]+"${words[@]}"}

. ../../../local/path.sh
flags=(--config "$config" --expdir "$expdir" --results "$results")
flags+=(--arms "$arms" --seeds "$seeds" --nj "$nj")
[ -z "$time_limit" ] || flags+=(--time_limit "$time_limit")
[ "$cmd" = local ] || flags+=(--slurm "$slurm_opts")
[ -z "$teacher_exp" ] || flags+=(--teacher_exp "$teacher_exp")
[ "$take_over" = false ] || flags+=(--take_over)
[ "$keep_audio" = false ] || flags+=(--keep_audio)
exec python -m espnet2_tfckd.stages.experiment --data_dir "dump/$data/raw" "${flags[@]}" \
    --typed_as ./run_experiment.sh "$@"
