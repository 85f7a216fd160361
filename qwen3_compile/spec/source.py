"""Where a checkpoint or a tokenizer comes from: a folder, a repository on the Hugging Face Hub, or a seed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

_HUB = re.compile(r"hf://(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w./-]*))?")
_SYNTHETIC = re.compile(r"synthetic://(?P<seed>[0-9]{1,18})")


@dataclass(frozen=True)
class FolderSource:
    """A checkpoint folder on this machine; a relative path counts from the spec's folder."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class HubSource:
    """A repository on the Hugging Face Hub. `revision` is a branch, a tag or a commit."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}"


@dataclass(frozen=True)
class SyntheticSource:
    """Weights drawn from a seed: right in shape and type, without meaning."""

    seed: int

    def __str__(self) -> str:
        return f"synthetic://{self.seed}"


Source: TypeAlias = FolderSource | HubSource | SyntheticSource


def parse_source(text: str) -> Source:
    """Read a source string: a path, `hf://org/name[@revision]` or `synthetic://SEED`.

    Raises:
        ValueError: none of the three; the message says what was expected.
    """
    if match := _HUB.fullmatch(text):
        return HubSource(match["repo"], match["revision"] or "main")
    if match := _SYNTHETIC.fullmatch(text):
        return SyntheticSource(int(match["seed"]))
    if text.startswith("hf:"):
        raise ValueError("expected hf://org/name or hf://org/name@revision")
    if text.startswith("synthetic:"):
        raise ValueError("expected synthetic://SEED with a non-negative integer of at most 18 digits")
    if "://" in text or not text.strip() or "\0" in text:
        raise ValueError("expected a path, hf://org/name@revision or synthetic://SEED")
    return FolderSource(Path(text))


def normal_source(text: str) -> str:
    """Check a source string and write it in full, with the Hub's default revision.

    Raises:
        ValueError: as `parse_source`.
    """
    return str(source) if isinstance(source := parse_source(text), HubSource | SyntheticSource) else text
