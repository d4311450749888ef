#!/usr/bin/env bash
# Trains the model that the package brings along: a causal student of 16 channels, the arm `none` of
# conf/experiment_extended.yaml (1 GB to fetch, 7,700 updates, one to two hours on one core;
# resumable). Then exports and packs it, and puts it and the sample recordings into
# espnet2_tfckd/pretrained/. Options are those of run_experiment.sh: --help
set -euo pipefail
cd "$(dirname "$0")"

case " $* " in *" --help "* | *" -h "*) exec ./run_experiment.sh --help ;; esac
./run_experiment.sh --config conf/experiment_extended.yaml --results exp/default_model \
    --teacher_exp results/teacher --data extended --arms none --seeds 1 \
    --recipe_opts "--sources extended --train_utts 3850" "$@"

. ../../../local/path.sh
exp=exp/experiment_extended/none/seed1
[ -e "$exp/run.json" ] || exit 0 # not finished within --time_limit
to=../../../espnet2_tfckd/pretrained
plain=exp/default_model/enh_causal_16k # without the pictures of the training
mkdir -p "$plain" "$to/causal_16k"
cp "$exp"/config.yaml "$exp"/valid.loss.best.pth "$plain/"
python -m espnet2_tfckd.stages.pack --exp_dir "$plain" --outfile "$to/causal_16k.zip"
python -m espnet2_tfckd.stages.export --exp_dir "$plain" --license Apache-2.0
cp "$plain"/onnx/*.onnx "$plain/onnx/meta.json" "$to/causal_16k/"
grep -o "[0-9]*epoch results.*" "$exp/train.log" >"$to/train.log"
python local/make_samples.py dump/extended/raw/test downloads/mini_extended/CREDITS.md "$to/samples"
grep "^|" exp/default_model/experiment.md
du -sh "$to"
