#!/usr/bin/env bash
# The front door: sets up on first use, then runs a recipe. ./run.sh --help
set -euo pipefail

caller=$PWD
cd "$(dirname "$0")"
corpus=mini
help=false
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) help=true ;;
        --corpus=*) corpus=${1#*=} ;;
        --corpus) corpus=${2:-} && shift ;;
        --*[_-]dir | --*[_-]exp | --*[_-]config | --*[_-]tag | --*[_-]scp | --*[_-]list | --asr[_-]model)
            # relative to where the command is typed, if it is there; else to the recipe
            arguments+=("$1")
            if [ $# -gt 1 ]; then
                [ -n "$2" ] && [ -e "$caller/$2" ] && arguments+=("$caller/$2") || arguments+=("$2")
                shift
            fi ;;
        *) arguments+=("$1") ;;
    esac
    shift
done

recipe=egs2/$corpus/enh1
if [ ! -x "$recipe/run.sh" ]; then
    echo "run.sh: no corpus '$corpus'; there are: $(cd egs2 && echo *)" >&2
    exit 2
fi
if [ "$help" = true ]; then
    echo "Usage: ./run.sh [--corpus $corpus] [options]        (corpora: $(cd egs2 && echo *))"
    exec "$recipe/run.sh" --help
fi
"$recipe/run.sh" --help ${arguments[@]+"${arguments[@]}"} >/dev/null # wrong options end it here
local/setup.sh
. local/path.sh
exec "$recipe/run.sh" ${arguments[@]+"${arguments[@]}"}
