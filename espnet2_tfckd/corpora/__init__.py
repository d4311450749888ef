"""A module for each corpus: ``prepare_<corpus>`` makes data directories of the download."""
