"""Distillers: losses between two stacks of features, independent of any network and of ESPnet."""

#: The scheme that ``--distiller`` means where it is not given.
DEFAULT_SCHEME = "i2srf_tfckd"
