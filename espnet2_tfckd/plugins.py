"""What other packages add, by their entry points."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from typing import Any


def load_plugins(group: str) -> dict[str, Any]:
    """What installed packages offer under a group of entry points, by name.

    One that cannot be imported is left out with a warning, so that a broken package does not stop
    a training that has no need of it.
    """
    loaded = {}
    for entry in entry_points(group=group):
        try:
            loaded[entry.name] = entry.load()
        except Exception as error:  # whatever somebody else's module does
            what = f"{entry.name} ({entry.value}, of {group})"
            warnings.warn(f"{what} is left out, as it cannot be imported: {error!r}", stacklevel=2)
    return loaded
