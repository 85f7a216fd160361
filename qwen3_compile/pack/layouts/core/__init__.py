"""Layouts that more than one target reads."""
