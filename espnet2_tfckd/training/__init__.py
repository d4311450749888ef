"""From YAML and options to a trained model."""
