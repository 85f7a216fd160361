"""The engine directory: its manifest, and how it comes into being whole or not at all."""
