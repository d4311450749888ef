"""The schemes by name: those of this package, and those that other packages add.

A class joins by the decorator::

    @register_distiller("my_scheme")
    class MyDistiller(AbsDistiller): ...

and its module is found if the package that holds it names it as an entry point, in its
``pyproject.toml``::

    [project.entry-points."espnet2_tfckd.distillers"]
    my_scheme = "my_package.my_scheme"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from espnet2_tfckd import distiller
from espnet2_tfckd.distiller.abs_distiller import AbsDistiller
from espnet2_tfckd.plugins import load_plugins

ENTRY_POINTS = "espnet2_tfckd.distillers"
_registered: dict[str, type[AbsDistiller]] = {}


def register_distiller(
    name: str, revision: int = 1
) -> Callable[[type[AbsDistiller]], type[AbsDistiller]]:
    """Make a scheme known by a name, which ``--distiller`` and YAML files give.

    Args:
        name: In lower case, as ESPnet's choices are.
        revision: See :class:`AbsDistiller`.

    Raises:
        TypeError: If the class is not an :class:`AbsDistiller`.
        ValueError: If the name is not in lower case, or another class has it.
    """

    def register(scheme: type[AbsDistiller]) -> type[AbsDistiller]:
        if not (isinstance(scheme, type) and issubclass(scheme, AbsDistiller)):
            raise TypeError(f"{scheme!r} is not a subclass of AbsDistiller")
        if name != name.lower():
            raise ValueError(f"the name of a scheme is in lower case, not {name!r}")
        other = _registered.get(name)
        if other and (other.__module__, other.__name__) != (scheme.__module__, scheme.__name__):
            raise ValueError(
                f"the name {name!r} is taken by {other.__module__}.{other.__name__}: give "
                f"{scheme.__module__}.{scheme.__name__} another one"
            )
        scheme.revision = revision
        _registered[name] = scheme
        return scheme

    return register


def distillers() -> dict[str, type[AbsDistiller]]:
    """All schemes by name: those of this package, of entry points, and registered by hand.

    An entry point that cannot be imported is left out with a warning.
    """
    for module in pkgutil.iter_modules(distiller.__path__, f"{distiller.__name__}."):
        importlib.import_module(module.name)
    load_plugins(ENTRY_POINTS)
    return dict(sorted(_registered.items()))
