"""Distillers: losses between two stacks of features. They know no network and no ESPnet."""
