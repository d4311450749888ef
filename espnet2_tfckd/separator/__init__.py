"""Separators: from a mixture's spectrum to the estimate's. They know nothing of distillation."""
