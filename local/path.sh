# Finds the Python to use; source it. The active environment goes first, then .venv.
# Sets TFCKD_PYTHON_OK to true or false, and puts the package, and .venv if needed, on the paths.

# Is everything installed that the metadata of the package asks for, in versions that fit? torch is
# imported, since a broken installation of it is the likeliest fault.
tfckd_python_works() {
    python - 2>/dev/null <<'PYTHON'
from importlib.metadata import requires, version
import torch, espnet2, espnet2_tfckd
from packaging.requirements import Requirement
for needed in map(Requirement, requires("espnet2_tfckd")):
    if needed.marker is None or needed.marker.evaluate({"extra": ""}):
        assert needed.specifier.contains(version(needed.name), prereleases=True), needed
PYTHON
}

if [ "${TFCKD_PYTHON_OK:-}" != true ]; then
    tfckd_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    tfckd_stamp=$tfckd_root/.venv/complete # what .venv was made from; written last
    tfckd_requirements=$(cat "$tfckd_root/setup.py" "$tfckd_root"/local/constraints/*.txt | cksum)
    export PYTHONPATH=$tfckd_root${PYTHONPATH:+:$PYTHONPATH}
    # without a locale Python would take files and output for ASCII
    export PYTHONUTF8=1 TFCKD_PYTHON_OK=true
    # glibc would hand the memory of large features back after each use, and zero it anew
    export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-4294967296}
    export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-4294967296}
    # threads that wait for each other sleep soon: where another process keeps a core busy, those that
    # spin as long as libgomp lets them make a training several times slower (tests/benchmarks/threads.py)
    export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
    if ! tfckd_python_works; then
        export PATH=$tfckd_root/.venv/bin:$PATH
        [ "$(cat "$tfckd_stamp" 2>/dev/null)" = "$tfckd_requirements" ] && tfckd_python_works ||
            TFCKD_PYTHON_OK=false
    fi
fi
