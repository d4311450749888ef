"""Distillers: losses between two stacks of features, independent of any network and of ESPnet."""

#: Revision of schemes whose loss has changed (all others have revision 1). A student that was
#: trained with an earlier revision does not count as trained with the present one.
REVISIONS = {"i2srf_tfckd": 2}
