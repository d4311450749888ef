"""Models of the field beside ours, each behind one interface, for ``make bench-peers``."""
