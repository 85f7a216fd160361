"""Custom operators of the engines: their names and layouts, declared once for builder and runtime."""
