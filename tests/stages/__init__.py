"""Tests of the stages; a package, so that its conftest has a name of its own."""
