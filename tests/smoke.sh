#!/usr/bin/env bash
# What must work with every Python, from nothing: set-up, the recipe on made-up recordings with tiny
# networks, and then, outside the checkout, the wheel: the registry, a packed model in ESPnet, the
# console command. About 5 minutes. Usage: tests/smoke.sh PYTHON
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
python=$(command -v "$1")
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
say() { printf '\n### %s with %s (%d s)\n' "$1" "$("$python" --version)" "$SECONDS"; }

mkdir "$folder/checkout" "$folder/elsewhere"
tar -c --exclude .venv --exclude .git --exclude dump --exclude exp . | tar -x -C "$folder/checkout"
cd "$folder/checkout"
unset TFCKD_PYTHON_OK PYTHONPATH
export PYTHON=$python PATH=/usr/local/bin:/usr/bin:/bin

say "set-up"
local/setup.sh >"$folder/setup.log" || { tail -n 30 "$folder/setup.log"; exit 1; }
tail -n 1 "$folder/setup.log"

say "recipe"
(
    . local/path.sh
    python -c '
from pathlib import Path
from tests import recipes
recipes.write_configs(Path(), recipes.TINY, recipes.TINY)
recipes.write_recordings(Path())'
    speech=speech/train noise=noise
    cp -R speech/train/ann0 speech/train/cid0 # training, validation and test need a speaker each
    for take in speech/train/cid0/*.wav; do cp speech/test/ann2/"${take##*/}" "$take"; done
    ./run.sh --corpus custom --speech_dir "$speech" --noise_dir "$noise" --teacher_config teacher.yaml \
        --student_config student.yaml --distill_config distill.yaml --ngpu 0 --nj 1 --inference_nj 1 \
        --scoring_protocol "SI_SDR STOI" --repeat_until 0.51
)

say "wheel outside the checkout"
recipe=$folder/checkout/egs2/custom/enh1
pack=$(echo "$recipe"/exp/enh_*distill*/*.zip)
onnx=$(dirname "$(echo "$recipe"/exp/enh_*distill*/*/meta.json)")
sound=$folder/checkout/speech/test/ann2/take0.wav
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
"${pip[@]}" wheel --no-deps --wheel-dir "$folder/wheel" .
"${pip[@]}" uninstall --yes espnet2_tfckd
"${pip[@]}" install --no-deps "$folder"/wheel/*.whl
export PATH=$PWD/.venv/bin:$PATH
cd "$folder/elsewhere"
python - "$pack" "$sound" <<'PYTHON'
import sys
import soundfile
import espnet2_tfckd
from espnet2.bin.enh_inference import SeparateSpeech
from espnet2.tasks.enh import separator_choices

assert "checkout/espnet2_tfckd" not in espnet2_tfckd.__file__, espnet2_tfckd.__file__
assert separator_choices.get_class("dpdcrn").__module__.startswith("espnet2_tfckd.")
signal, rate = soundfile.read(sys.argv[2])
(enhanced,) = SeparateSpeech.from_pretrained(sys.argv[1])(signal[None], rate)
assert enhanced.shape == (1, len(signal)), enhanced.shape
PYTHON
espnet2-tfckd --version
for model in "$pack" "$onnx"; do
    espnet2-tfckd info "$model"
    espnet2-tfckd enhance "$sound" --model "$model" -o enhanced
    ls -l enhanced/*.wav
    rm -r enhanced
done
espnet2-tfckd samples # the first commands of the README, with the model that ships
espnet2-tfckd enhance samples/noisy -o enhanced
[ "$(ls enhanced/*.wav | wc -l)" -eq 6 ]
say "all passed"
