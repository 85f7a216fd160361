"""The compiler: from a YAML spec to a verified engine."""
