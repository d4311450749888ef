#!/usr/bin/env bash
# Makes sure that there is a Python environment to run in: the active one if everything needed is
# installed there, else .venv, which is made on first use. Interrupted, it goes on when run again.
# Usage: local/setup.sh [--torch cpu|INDEX|FOLDER]
set -euo pipefail

caller=$PWD
cd "$(dirname "$0")/.."
. local/path.sh
pytorch_cpu_index=https://download.pytorch.org/whl/cpu

fail() {
    printf 'set-up failed: %s\n' "$@" >&2
    exit 1
}

# Python 3.12 and 3.13 come first: they get the newest ESPnet.
find_base_python() {
    local candidate versions candidates=(python3 python3.13 python3.12 python3.11) check='
import sys
minor = sys.version_info[1] if sys.version_info[0] == 3 else 0
sys.exit(str(minor) not in sys.argv[1].split(","))'
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for versions in 12,13 11; do
        for candidate in "${candidates[@]}"; do
            if "$candidate" -c "$check" "$versions" 2>/dev/null; then
                command -v "$candidate"
                return
            fi
        done
    done
    fail "Python 3.11, 3.12 or 3.13 is needed: install one (Debian: sudo apt-get install \
python3-venv), or name it: PYTHON=/path/to/python ./run.sh"
}

check_machine() {
    local base=$1 version=$2 free_gb missing=()
    "$base" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
    # some of the packages are compiled when they are installed
    command -v c++ >/dev/null || missing+=(build-essential)
    [ -e "$("$base" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        missing+=("python$version-dev")
    if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null; then
        fail "packages of the system are missing: sudo apt-get install ${missing[*]}"
    elif [ ${#missing[@]} -gt 0 ]; then
        fail "the system lacks what Debian calls ${missing[*]}; a compiler comes on macOS with:" \
            "xcode-select --install"
    fi
    free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') >> 20))
    [ "$free_gb" -ge "$3" ] || fail "$PWD has $free_gb GB free, about $3 GB are needed"
}

pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check --log .venv/pip.log "$@"
}

# install_torch FROM CONSTRAINTS: torch and torchaudio, both of one kind, without what they need; what
# was tried, else what there is. The constraints then hold these two.
install_torch() {
    local from=("--index-url" "$1")
    [ ! -d "$1" ] || from=("--no-index" "--find-links" "$1")
    (
        export PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= # of the machine: other builds may lie there
        pip_install --no-deps "${from[@]}" --constraint "$2" torch torchaudio ||
            pip_install --no-deps "${from[@]}" torch torchaudio
    ) || return
    grep -v '^torch\(audio\)\{0,1\}==' "$2" >.venv/constraints.txt
    .venv/bin/python -m pip freeze | grep '^torch\(audio\)\{0,1\}==' >>.venv/constraints.txt
}

install_packages() {
    local version=$1 torch=$2 constraints=local/constraints/$1.txt
    # pip 26 refuses the metadata of ci_sdr 0.0.2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'pip<26' || return
    if [ -n "$torch" ]; then
        install_torch "$torch" "$constraints" || return
        constraints=.venv/constraints.txt
    fi
    pip_install --constraint "$constraints" --editable '.[dev]'
}

# What of pip's log a user can act on: the package that could not be built and its last lines.
explain_failure() {
    local package
    package=$(sed -n 's/.*Failed building wheel for \([^ ]*\).*/\1/p' .venv/pip.log | tail -n 1)
    if [ -z "$package" ] && grep -q 'subprocess-exited-with-error\|metadata-generation' .venv/pip.log; then
        fail "a package could not be prepared: install what its lines above ask for and run this again"
    elif [ -z "$package" ] && grep -q "ERROR: ResolutionImpossible" .venv/pip.log; then
        fail "these versions do not go together, see above (with --torch: name other builds)"
    elif [ -z "$package" ]; then
        fail "pip could not install everything, see above and .venv/pip.log" \
            "fix the network or the disk and run this again: what was downloaded is kept"
    fi
    echo "set-up failed: $package could not be compiled. The last lines of its compilation:" >&2
    sed -n "/Building wheel for $package.*: started/,/Failed building wheel for $package/p" \
        .venv/pip.log | cut -d' ' -f2- | grep -v '^ *$' | tail -n 15 | sed 's/^/    /' >&2
    fail "install what these lines ask for and run this again; all of it is in .venv/pip.log"
}

torch=
if [ "${1:-}" = --torch ]; then
    torch=${2:-}
    [ -n "$torch" ] || fail "--torch takes cpu, the address of a package index, or a folder of wheels"
    case $torch in
        cpu) torch=$pytorch_cpu_index ;;
        *://*) ;;
        *)
            torch=$(cd "$caller" && cd "$torch" 2>/dev/null && pwd) ||
                fail "--torch $2: there is no such folder; it takes cpu, an index or a folder of wheels"
            ;;
    esac
fi
if [ "$TFCKD_PYTHON_OK" != true ]; then
    base=$(find_base_python)
    version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    size_gb=$([ -n "$torch" ] && echo 2 || echo 7)
    check_machine "$base" "$version" $((size_gb + 2))
    present=$(.venv/bin/python -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>&1) || true
    if [ "$present" != "$version" ]; then
        echo "Installing into $PWD/.venv with Python $version: $size_gb GB, a few minutes." \
            "If interrupted, run this again."
        "$base" -m venv --clear .venv || fail "$base -m venv could not make $PWD/.venv"
    else
        echo "Completing $PWD/.venv (Python $version)."
    fi
    rm -f .venv/pip.log
    install_packages "$version" "$torch" || explain_failure
    printf '%s' "$tfckd_requirements" >"$tfckd_stamp"
    unset TFCKD_PYTHON_OK
    . local/path.sh
    [ "$TFCKD_PYTHON_OK" = true ] ||
        fail "what was installed does not work: rm -r $PWD/.venv, then run this again"
elif [ -n "$torch" ]; then
    echo "--torch changes nothing, because everything is installed; to install again, rm -r $PWD/.venv"
fi
echo "Python environment: $(command -v python)"
