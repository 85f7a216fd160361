"""`qwen3-compile inspect`: what an engine holds, without running it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from qwen3_compile.accuracy_limits import Verdict, current_names, judge
from qwen3_compile.cli.figures import show_limits, show_others
from qwen3_compile.cli.options import ENGINE, JSON, STRICT
from qwen3_compile.cli.output import print_json
from qwen3_compile.contents import bytes_by_part, cache_bytes_per_token, operators, read_graph
from qwen3_compile.terminal import Screen, aligned, harmless
from qwen3_runtime.directory import read_engine_directory, read_signatures
from qwen3_runtime.engine_files import ACCURACY, PLAN

if TYPE_CHECKING:
    from qwen3_runtime.manifest import EngineTarget


@click.command()
@ENGINE
@STRICT
@click.option(
    "--trusted-key",
    "trusted_keys",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Require a signature by this Ed25519 public key (PEM). One match is enough; repeatable.",
)
@JSON
def command(engine: Path, strict: bool, trusted_keys: tuple[Path, ...], as_json: bool) -> None:
    """Show an ENGINE's operators, sizes by part, cache bytes per token and accuracy limits."""
    found = describe(engine, strict=strict, trusted_keys=trusted_keys)
    print_json(found) if as_json else _show(found)


def describe(engine: Path, *, strict: bool = True, trusted_keys: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Facts about an engine directory, JSON-able. Raises `EngineError` if it is not one."""
    manifest = read_engine_directory(engine, strict=strict, trusted_keys=trusted_keys)
    graph, report, io = read_graph(engine), _report(engine), manifest.io
    summary = current_names(report["summary"]) if report else None
    limits = manifest.spec.get("accuracy") or {}
    verdicts = judge(limits, io.output, summary, report.get("greedy", []), report.get("rotation"))
    return {
        "name": manifest.name,
        "source": manifest.source["uri"],
        "revision": manifest.source["revision"],
        "target": _target(manifest.target),
        "precision": manifest.spec.get("precision"),
        "limits": manifest.spec.get("limits"),
        "operators": dict(operators(graph).most_common()),
        "bytes_by_part": bytes_by_part(graph),
        "kv_cache_bytes_per_token": cache_bytes_per_token(io.layers, io.kv_heads, io.head_dim, io.cache_dtype),
        "inputs": [value.name for value in graph.input if not value.name.startswith(("kv.", "kv_scales."))],
        "outputs": [value.name for value in graph.output if not value.name.startswith("kv_out.")],
        "accuracy_limits": [asdict(verdict) for verdict in verdicts],
        "accuracy": summary,
        "accuracy_of": report.get("executed"),
        "verified": manifest.verified,
        "trusted": bool(trusted_keys),
        "signed_by": [signature.key_id for signature in read_signatures(engine, strict=strict)],
        "files": {name: entry.size for name, entry in sorted(manifest.files.items())},
    }


def _target(target: EngineTarget) -> dict[str, Any]:
    """What the engine was built for; whose operators run, and the architectures of a plan."""
    found: dict[str, Any] = {"backend": target.backend, "provider": target.provider}
    found["plugins"] = target.plugins if isinstance(target.plugins, str) else list(target.plugins)
    if target.has_plan:
        found["compute_capabilities"] = list(target.compute_capabilities)
    return found


def _report(engine: Path) -> dict[str, Any]:
    path = engine / ACCURACY
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _show(found: dict[str, Any]) -> None:
    screen = Screen()
    revision = f"@{found['revision']}" if found["revision"] else ""
    screen.print(Text.assemble((harmless(found["name"]), "bold"), harmless(f"  {found['source']}{revision}")))
    for key in ("target", "precision", "limits"):
        line = ", ".join(f"{name} {_shown(value)}" for name, value in (found[key] or {}).items() if value is not None)
        screen.print(f"{key:>10}  {line}")
    screen.print(f"{'KV cache':>10}  {found['kv_cache_bytes_per_token']:,} bytes per token of context")
    _show_pairs(screen, "bytes by part", found["bytes_by_part"])
    _show_pairs(screen, "operators", found["operators"])
    verdicts = [Verdict(**verdict) for verdict in found["accuracy_limits"]]
    show_limits(screen, verdicts)
    if found["accuracy"]:
        show_others(screen, found["accuracy"], verdicts)
    if plan := found["files"].get(PLAN):
        screen.print(Text("plan", "bold"), f" {plan:,} bytes")
    if found["verified"]:
        screen.print(Text.assemble(("verified", "bold green"), ": compared with PyTorch when it was built"))
        if found["accuracy_of"]:
            screen.print(f"  what was compared: {found['accuracy_of']}")
    else:
        screen.print(Text.assemble(("not verified", "bold red"), ": built without validation"))
    checked = "checked: a trusted key signed it" if found["trusted"] else "not checked: --trusted-key checks it"
    for signer in found["signed_by"]:
        screen.print(Text("signature", "bold"), harmless(f"of key {signer[:16]}, {checked}"))


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _show_pairs(screen: Screen, title: str, values: dict[str, int]) -> None:
    screen.print(title, style="bold")
    for line in aligned([(name, f"{value:,}") for name, value in values.items()], right=(1,)):
        screen.print(f"  {line}")
