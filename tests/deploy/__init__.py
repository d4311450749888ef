"""Tests of what takes a student out of training. A package, so that its conftest has a name of its own."""
