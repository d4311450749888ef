"""Distillers: losses between two stacks of features. They know no network and no ESPnet."""

#: The scheme that ``--distiller`` means where it is not given.
DEFAULT_SCHEME = "i2srf_tfckd"
