"""Stages of a recipe: Python functions, each with a thin command line."""
