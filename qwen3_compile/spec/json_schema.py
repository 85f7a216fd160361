"""The JSON schema of a spec, for editors: made from the models, with dependent defaults in words."""

from __future__ import annotations

from typing import Any

from qwen3_compile.spec.schema import Spec


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) that a spec file follows."""
    schema = Spec.model_json_schema(mode="validation")
    for section in (schema, *schema["$defs"].values()):
        for field in section.get("properties", {}).values():
            if text := field.pop("x-default", None):
                field.pop("default", None)
                field["description"] = f"{field['description']} (default: {text})"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "qwen3-compile spec",
    }
