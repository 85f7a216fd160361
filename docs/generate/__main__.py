"""Writes every page that is generated: `python docs/generate`."""

from __future__ import annotations

from pathlib import Path

import api_reference
import cli_reference
import verification_page

from qwen3_compile.spec import docs as spec_reference

DOCS = Path(__file__).resolve().parents[1]


def pages() -> dict[str, str]:
    """The text of each page by its path below `docs/`."""
    reference = {f"reference/{name}": api_reference.page(package) for name, package in api_reference.PAGES.items()}
    return reference | {
        "reference/cli.md": cli_reference.page(),
        "spec.md": spec_reference.spec_page(),
        "spec.schema.json": spec_reference.schema_text(),
        "verification.md": verification_page.page(),
    }


def main() -> None:
    """Write the pages that differ, and name them."""
    for name, text in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name}")


if __name__ == "__main__":
    main()
