"""Checkpoint matrices to the bytes of an engine's weights file."""
