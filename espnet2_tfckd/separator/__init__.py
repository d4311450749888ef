"""Separators: from a mixture's spectrum to the estimate's, independent of distillation."""
