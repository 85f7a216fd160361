"""Layouts of the standard operators."""
