"""One module a corpus: ``prepare_<corpus>`` turns what was downloaded into data directories."""
