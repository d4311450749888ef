"""What ESPnet needs around it: a release that was tried, and a stand-in for ``ci_sdr``."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import warnings
from types import ModuleType, SimpleNamespace

#: The releases of ESPnet that this package was tried with; setup.py asks for the same.
ESPNETS = ("202511", "202611")
#: How to install ``ci_sdr``, whose metadata pip refuses from release 26 on.
INSTALL_CI_SDR = "pip install 'pip<26' and then pip install ci_sdr"


def untried_espnet() -> str | None:
    """A warning that the installed ESPnet was not tried, with the remedy; None if it was."""
    from importlib.metadata import PackageNotFoundError, version  # slow, and seldom needed

    try:
        installed = version("espnet")
    except PackageNotFoundError:
        return None
    if installed in ESPNETS:
        return None
    right = ESPNETS[-1] if sys.version_info >= (3, 12) else ESPNETS[0]
    return (
        f"espnet2_tfckd was not tried with ESPnet {installed}, but with {' and '.join(ESPNETS)}: "
        f"if anything fails, pip install espnet=={right}"
    )


class _WarnOfESPnet(importlib.abc.MetaPathFinder):
    """Warns when ESPnet is first imported, if it is a release that was not tried."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "espnet2":
            sys.meta_path.remove(self)
            if sentence := untried_espnet():
                warnings.warn(sentence, stacklevel=2)


class _StandInForCiSdr(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``ci_sdr`` where it is not installed.

    ESPnet's enhancement task imports it at its top, whether the criterion is used or not. The
    stand-in lets everything else work. If the criterion is computed, it says what to install.
    """

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "ci_sdr":
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module: ModuleType) -> None:
        def missing(*args, **kwargs):
            raise RuntimeError(f"CI-SDR needs the package ci_sdr: {INSTALL_CI_SDR}")

        module.pt = SimpleNamespace(ci_sdr=missing, ci_sdr_loss=missing)


def install() -> None:
    """Check imports of ESPnet, and make the import of ``ci_sdr`` always succeed."""
    if "espnet2" not in sys.modules:
        sys.meta_path.insert(0, _WarnOfESPnet())
    sys.meta_path.append(_StandInForCiSdr())
