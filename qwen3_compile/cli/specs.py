"""`qwen3-compile specs`: list, show, check and begin specs, and print their JSON schema."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from ruamel.yaml import YAML

from qwen3_compile.cli.completion import ModelArgument
from qwen3_compile.cli.options import JSON, OVERRIDES
from qwen3_compile.cli.output import print_json, remark, warn
from qwen3_compile.errors import SpecError
from qwen3_compile.resolve import resolve
from qwen3_compile.resolve.argument import identify_argument, shipped_source
from qwen3_compile.resolve.made import made_spec
from qwen3_compile.spec import Spec, load_spec, shipped_specs
from qwen3_compile.spec.cautions import cautions
from qwen3_compile.spec.json_schema import json_schema
from qwen3_compile.spec.size import parameter_counts, weight_bytes
from qwen3_compile.terminal import aligned, write

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group()
def command() -> None:
    """List, show, check and create specs."""


@command.command("list")
@JSON
def list_specs(as_json: bool) -> None:
    """List the specs that come with the package."""
    rows = sorted((_row(load_spec(path), path) for path in shipped_specs().values()), key=_by_size)
    if as_json:
        print_json(rows)
        return
    head = ("name", "task", "params", "active", "context", "weights")
    lines = [
        (
            row["name"],
            row["task"],
            _short(row["parameters"]),
            _short(row["active_parameters"]) if row["family"] == "moe" else "",  # of a mixture, those of one token
            f"{row['max_position_embeddings']:,}",
            _size(row["weight_bytes"]),
        )
        for row in rows
    ]
    write("".join(f"{line}\n" for line in aligned([head, *lines], right=(2, 3, 4, 5))))


@command.command("show")
@click.argument("spec", metavar="MODEL", type=ModelArgument())
@OVERRIDES
@JSON
def show_spec(spec: str, overrides: Sequence[str], as_json: bool) -> None:
    """Show the spec that `build MODEL` compiles, every default filled in."""
    resolved = resolve(spec, overrides).spec.resolved()
    if as_json:
        print_json(resolved)
    else:
        write(to_yaml(resolved))


@command.command("check")
@click.argument("specs", metavar="MODEL...", type=ModelArgument(), nargs=-1, required=True)
@OVERRIDES
def check_specs(specs: Sequence[str], overrides: Sequence[str]) -> None:
    """Check specs; every error of every spec is printed."""
    errors = []
    for name in specs:
        try:
            spec = resolve(name, overrides).spec
            write(f"{name}: {spec.name} is valid\n")
            for caution in (*spec.notes, *cautions(spec)):
                warn(f"{name}: {caution}")
        except SpecError as error:
            errors.append(str(error))
    if errors:
        raise SpecError("\n".join(errors))


@command.command("init")
@click.argument("source", metavar="SOURCE", type=ModelArgument())
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default stdout.")
def init_spec(source: str, output: Path | None) -> None:
    """Write a spec for SOURCE to edit: a checkpoint folder, org/name of the hub, or the name of a shipped spec.

    A released model has a shipped spec, which is copied. The spec of any other model is made from config.json, and each
    line says where it comes from.
    """
    text = spec_text(source, None if output is None else output.parent)
    if output is None:
        write(text)
        return
    try:
        with output.open("x", encoding="utf-8") as file:  # a spec is somebody's work: never replaced
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{output}: exists; remove it, or choose another file with -o") from None
    load_spec(output)
    remark(f"{output}: edit it, then `qwen3-compile build {output}`")


def spec_text(source: str, folder: Path | None) -> str:
    """The text of a spec for a source; a relative source in it counts from `folder`, the spec's."""
    if (shipped := shipped_source(source)) is not None:
        return shipped.read_text(encoding="utf-8")
    identity = identify_argument(source)
    remark(f"task {identity.task}: {identity.task_from}")
    if folder is None or not Path(source).is_dir() or Path(source).is_absolute():
        return made_spec(identity)
    return made_spec(identity, source=os.path.relpath(source, folder))


@command.command("schema")
def print_schema() -> None:
    """Print the JSON schema of a spec, for editors."""
    print_json(json_schema())


def to_yaml(values: dict[str, Any]) -> str:
    """Write a resolved spec as YAML in the order of the schema."""
    writer = YAML()
    writer.default_flow_style = False
    # ruamel leaves null empty by default, which reads as a forgotten value.
    writer.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    text = io.StringIO()
    writer.dump(values, text)
    return text.getvalue()


def _row(spec: Spec, path: Path) -> dict[str, Any]:
    architecture = spec.model.architecture
    has_head = spec.model.task != "embedding"
    total, active = parameter_counts(spec.graph_architecture(), has_head=has_head)
    return {
        "name": spec.name,
        "path": str(path),
        "task": spec.model.task,
        "family": "moe" if architecture.num_experts else "dense",
        "parameters": total,
        "active_parameters": active,
        "max_position_embeddings": architecture.max_position_embeddings,
        "precision": spec.precision.weights,
        "weight_bytes": weight_bytes(spec.graph_architecture(), spec.graph_precision(), has_head=has_head),
    }


def _by_size(row: dict[str, Any]) -> tuple[bool, str, int, int, str]:
    """Order generators before embeddings and rerankers, small before large."""
    generates = row["task"] in ("chat", "completion")
    return not generates, "" if generates else row["task"], row["parameters"], -row["active_parameters"], row["name"]


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def _short(count: int) -> str:
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"
