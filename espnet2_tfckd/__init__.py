"""Distillation of speech-enhancement models for ESPnet2.

Importing the package makes its separators and its loss on compressed spectra known to ESPnet, so
that ESPnet's own trainer, inference and ``SeparateSpeech`` find them by name. So are separators of
other packages, which name their classes as entry points in their ``pyproject.toml``::

    [project.entry-points."espnet2_tfckd.separators"]
    my_net = "my_package.my_net:MyNetSeparator"
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys

from espnet2_tfckd import compatibility

__version__ = "0.1.0"

_ENHANCEMENT_TASK = "espnet2.tasks.enh"


def _register(task_module) -> None:
    from espnet2_tfckd.criterion import CompressedSpectrumLoss
    from espnet2_tfckd.plugins import load_plugins
    from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator

    task_module.criterion_choices.classes["compressed_spectrum"] = CompressedSpectrumLoss
    known = task_module.separator_choices.classes
    known["dpdcrn"] = DPDCRNSeparator
    for name, separator in load_plugins("espnet2_tfckd.separators").items():
        known.setdefault(name, separator)


class _RegisterOnImport(importlib.abc.MetaPathFinder):
    """Registers our classes at the moment ESPnet's enhancement task is first imported.

    Importing that task costs about 10 s of CPU and 0.9 GB, which commands that touch no network
    must not pay for, so the package does not import it by itself.
    """

    _is_asking = False

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _ENHANCEMENT_TASK or self._is_asking:
            return None
        self._is_asking = True  # the other finders
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_asking = False
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module) -> None:
            load(module)
            _register(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

        spec.loader.exec_module = load_and_register
        return spec


compatibility.install()
if _ENHANCEMENT_TASK in sys.modules:
    _register(sys.modules[_ENHANCEMENT_TASK])
else:
    sys.meta_path.insert(0, _RegisterOnImport())
