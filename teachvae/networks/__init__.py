"""Layers with their backwards, optimisers, and the one training loop."""
