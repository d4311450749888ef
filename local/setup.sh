#!/usr/bin/env bash
# Makes sure that there is a Python environment to run in: the active one if everything needed is
# installed there, else .venv, which is made on first use. Interrupted, it goes on when run again.
set -euo pipefail

cd "$(dirname "$0")/.."
. local/path.sh
free_gb_needed=8

fail() {
    printf 'set-up failed: %s\n' "$@" >&2
    exit 1
}

find_base_python() {
    local candidate check='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if "$candidate" -c "$check" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 to 3.13 is needed; name one so: PYTHON=/path/to/python ./run.sh"
}

check_machine() {
    local base=$1 version free_gb missing=()
    version=$("$base" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    "$base" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$version-venv")
    # some of the packages are compiled when they are installed
    command -v c++ >/dev/null || missing+=(build-essential)
    [ -e "$("$base" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        missing+=("$version-dev")
    [ ${#missing[@]} -eq 0 ] ||
        fail "packages of the system are missing: sudo apt-get install ${missing[*]}"
    free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') >> 20))
    [ "$free_gb" -ge "$free_gb_needed" ] ||
        fail "$PWD has $free_gb GB free, about $free_gb_needed GB are needed"
}

install_packages() {
    # pip 26 refuses the metadata of ci_sdr 0.0.2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip<26' &&
        .venv/bin/python -m pip install --disable-pip-version-check --log .venv/pip.log \
            --constraint constraints.txt --editable '.[dev]'
}

if [ "$TFCKD_PYTHON_OK" != true ]; then
    base=$(find_base_python)
    check_machine "$base"
    echo "Installing into $PWD/.venv: 5 GB, a few minutes. If interrupted, run this again."
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$base" -m venv --clear .venv ||
        fail "$base -m venv could not make $PWD/.venv"
    install_packages || fail "pip could not install everything, see above and .venv/pip.log" \
        "fix the network or the disk and run this again: what was downloaded is kept"
    printf '%s' "$tfckd_requirements" >"$tfckd_stamp"
    unset TFCKD_PYTHON_OK
    . local/path.sh
    [ "$TFCKD_PYTHON_OK" = true ] ||
        fail "what was installed does not work: rm -r $PWD/.venv, then run this again"
fi
echo "Python environment: $(command -v python)"
