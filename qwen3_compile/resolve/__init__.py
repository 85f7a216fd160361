"""From what a user typed (a spec, a shipped name, a hub id, a checkpoint folder) to a spec."""

from __future__ import annotations

from qwen3_compile.resolve.argument import Resolved, resolve

__all__ = ["Resolved", "resolve"]
