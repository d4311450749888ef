"""Tests of trained models, and of what opens them. A package, so that its conftest has a name of its own."""
