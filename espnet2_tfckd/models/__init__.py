"""Trained models: configurations, packs and the hub, opened without trusting them."""
