"""Scoring of enhanced speech: metrics, their parallel run over a data set, and tables."""
