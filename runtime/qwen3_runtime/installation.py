"""The command that adds what an installation lacks, for messages: it differs by where the installation came from."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "qwen3-compile"


def install_command(*extras: str) -> str:
    """The shell command that installs extras of this project into the environment that this process runs in.

    pip and uv record in `direct_url.json` what an installation was made of (PEP 610): a clone, a wheel file, a
    repository. Without a record it came from an index, which has it still.

    Args:
        extras: names from pyproject.toml, such as `cpu`.
    """
    wanted = f"[{','.join(extras)}]"
    source = _source()
    if source is None:
        return f"pip install '{DISTRIBUTION}{wanted}'"
    url = source["url"]
    if "dir_info" in source:
        folder = Path(unquote(urlsplit(url).path))
        shown = "." if folder == Path.cwd() else str(folder)
        option = "-e " if source["dir_info"].get("editable") else ""
        return f"pip install {option}{shlex.quote(shown + wanted)}"
    if "vcs_info" in source:
        url = f"{source['vcs_info']['vcs']}+{url}@{source['vcs_info']['commit_id']}"
    return f"pip install {shlex.quote(f'{DISTRIBUTION}{wanted} @ {url}')}"


def tensorrt_command(backend: str) -> str:
    """The shell command that installs what the backend `tensorrt` or `tensorrt-rtx` needs."""
    full = "pip install 'tensorrt==11.*' cuda-python"  # its libraries take gigabytes: no extra brings them
    return full if backend == "tensorrt" else install_command("tensorrt")


def _source() -> dict[str, Any] | None:
    """What `direct_url.json` says; a clone that is not installed but on the path counts as one that is."""
    try:
        record = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        clone = Path(__file__).resolve().parents[2]
        known = (clone / "pyproject.toml").is_file()
        return {"url": clone.as_uri(), "dir_info": {"editable": True}} if known else None
    found: dict[str, Any] | None = json.loads(record) if record else None
    return found
