"""Compares an engine with eager PyTorch, position by position, and judges it by the limits of its spec."""
