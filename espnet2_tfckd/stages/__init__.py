"""Stages of a recipe as Python functions with a thin command line each."""
