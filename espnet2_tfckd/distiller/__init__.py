"""Distillers: losses between two stacks of features. They know no network and no ESPnet."""

#: Revision of those schemes that compute something else than they once did (the others' is 1):
#: what was trained with an earlier one is not taken for trained with the present one.
REVISIONS = {"i2srf_tfckd": 2}
