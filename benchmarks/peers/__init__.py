"""Measures this project and other engines on one checkpoint, in turns, each in an environment of its own."""
