"""Separators: networks that map a mixture's spectrum to the estimate's. They know no distillation."""
