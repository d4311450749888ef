#!/usr/bin/env bash
# The front door: sets up on first use, then runs a recipe. ./run.sh --help
set -euo pipefail

caller=$PWD
cd "$(dirname "$0")"
[ -d egs2 ] || cd "${SLURM_SUBMIT_DIR:-.}" # sbatch runs a copy of this script elsewhere
corpus=mini
help=false
torch=()
arguments=()
# of options that name a file or folder
path_option='^--.*[_-](dir|exp|config|tag|scp|list|results)$|^--(asr|download)[_-]model$'

# from_here PATH: relative to where the command is typed, if it is there; else to the recipe
from_here() { if [ -n "$1" ] && [ -e "$caller/$1" ]; then echo "$caller/$1"; else echo "$1"; fi; }

while [ $# -gt 0 ]; do
    name=${1%%=*}
    if [[ $1 =~ ^(--help|-h)$ ]]; then
        help=true
    elif [ "$name" = --corpus ]; then
        [ "$1" = --corpus ] || set -- "$name" "${1#*=}" "${@:2}"
        corpus=${2:-}
        [ $# -lt 2 ] || shift
    elif [ "$name" = --torch ]; then
        [ "$1" = --torch ] || set -- "$name" "${1#*=}" "${@:2}"
        torch=(--torch "$(from_here "${2:-}")")
        [ $# -lt 2 ] || shift
    elif [[ $name =~ $path_option && $1 = *=* ]]; then
        arguments+=("$name=$(from_here "${1#*=}")")
    elif [[ $name =~ $path_option && $# -gt 1 ]]; then
        arguments+=("$1" "$(from_here "$2")")
        shift
    else
        arguments+=("$1")
    fi
    shift
done

recipe=egs2/$corpus/enh1
if [ -z "$corpus" ] || [ ! -x "$recipe/run.sh" ]; then
    echo "run.sh: no corpus '$corpus'; there are: $(cd egs2 && echo *)" >&2
    exit 2
fi
if [ "$help" = true ]; then
    echo "Usage: ./run.sh [--corpus $corpus] [--torch cpu] [options]        (corpora: $(cd egs2 && echo *))"
    echo "--torch cpu: on first use, install PyTorch without CUDA; or name a package index or a folder of wheels"
    exec "$recipe/run.sh" --help
fi
"$recipe/run.sh" --help ${arguments[@]+"${arguments[@]}"} >/dev/null # wrong options end it here
local/setup.sh ${torch[@]+"${torch[@]}"}
. local/path.sh
exec "$recipe/run.sh" ${arguments[@]+"${arguments[@]}"}
