#!/usr/bin/env bash
# Writes local/constraints/<version>.txt: what pip chooses today for a Python, in an environment made
# for it and removed again. Usage: local/freeze_versions.sh PYTHON [PYTHON ...]
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ] || [ "$1" = --help ]; then
    sed -n '2,3s/^# //p' "$0"
    exit
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for python in "$@"; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -m venv --clear "$folder/venv"
    pip=("$folder/venv/bin/python" -m pip --disable-pip-version-check)
    "${pip[@]}" install --quiet 'pip<26' # later ones refuse the metadata of ci_sdr 0.0.2
    "${pip[@]}" install '.[dev,demo]'
    {
        echo "# One set of versions that was run, on $(uname -s) $(uname -m) with Python $version" \
            "(made by local/freeze_versions.sh)"
        "${pip[@]}" freeze --exclude espnet2_tfckd
    } >"$folder/versions"
    mv "$folder/versions" "local/constraints/$version.txt"
done
