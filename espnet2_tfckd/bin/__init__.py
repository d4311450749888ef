"""Command lines that ESPnet's users know, with our separators and distillers registered."""
