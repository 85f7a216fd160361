"""Which spec an argument stands for. Every command that takes a spec or a model asks here.

In this order: a file is a spec; a shipped spec's name is that spec; a folder is a checkpoint; `org/name[@revision]`
(`hf://` may stand before it) is a repository on the Hugging Face Hub. A checkpoint gets the shipped spec of its
repository, or that of its dimensions, task and stored format, or one made from its config.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_compile.errors import CheckpointError, SpecError
from qwen3_compile.spec import find_spec, load_spec, parse_spec, shipped_specs, spec_from_mapping
from qwen3_compile.spec.shipped import shipped_repositories
from qwen3_compile.spec.source import FolderSource, HubSource, parse_source
from qwen3_runtime.engine_files import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_compile.resolve.identity import Identity
    from qwen3_compile.spec import Spec
    from qwen3_graphs.architecture import Architecture

CONFIG = "config.json"


@dataclass(frozen=True)
class Resolved:
    """A spec and where it is from.

    Attributes:
        spec: overrides applied.
        origin: one line for people; empty where the argument names the spec itself.
    """

    spec: Spec
    origin: str = ""


def resolve(argument: str, overrides: Sequence[str] = (), *, cache_dir: Path | None = None) -> Resolved:
    """The spec that an argument of the command line stands for.

    Args:
        argument: a file, a shipped spec's name, a checkpoint folder, or `org/name[@revision]` of the hub.
        overrides: `key.path=value` each, applied last.
        cache_dir: where the small files of an unknown repository are downloaded to; default is the Hugging Face cache.

    Raises:
        SpecError: it stands for nothing; the message names the nearest that exists.
        CheckpointError: it is a checkpoint that cannot be compiled.
    """
    folder = Path(argument)
    _require_there(argument)
    if argument in shipped_specs() or not (folder.is_dir() or _hub_source(argument)) or folder.is_file():
        return Resolved(load_spec(_spec_file(argument), overrides))
    source = FolderSource(folder) if folder.is_dir() else _hub_source(argument)
    if isinstance(source, HubSource) and (stem := _shipped_for(source.repo)):
        canonical = shipped_repositories()[stem]
        own = [f"model.source=hf://{canonical}@{source.revision}"]
        return Resolved(load_spec(shipped_specs()[stem], [*own, *overrides]), f"the shipped spec {stem}")
    if isinstance(source, FolderSource):
        _require_checkpoint(folder, argument)
    return _of_checkpoint(identify_argument(argument, cache_dir=cache_dir), overrides)


def identify_argument(argument: str, *, cache_dir: Path | None = None) -> Identity:
    """Look at the checkpoint that an argument names, a folder or a repository.

    Raises:
        SpecError: it names neither.
        CheckpointError: as `identify`; of the hub, also that there is no such folder.
    """
    from qwen3_compile.resolve.identity import identify

    _require_there(argument)
    folder, hub = Path(argument), _hub_source(argument)
    if folder.is_dir():
        _require_checkpoint(folder, argument)
        return identify(FolderSource(folder))
    if hub is None:
        raise SpecError(f"{argument}: neither a checkpoint folder nor org/name of the hub{_suggestion(argument)}")
    if not argument.startswith("hf://") and folder.parent.is_dir():
        # A misspelled path is nobody's business on the hub.
        other = f"{folder.parent} is a local folder; for a repository of the hub, write hf://{argument}"
        raise SpecError(f"{argument}: no such file or folder; {_beside(folder) or other}")
    try:
        return identify(hub, cache_dir=cache_dir)
    except CheckpointError as error:
        if argument.startswith("hf://"):
            raise
        raise CheckpointError(f"{argument}: no such file or folder; {error}{_suggestion(argument)}") from error


def shipped_source(argument: str) -> Path | None:
    """The shipped spec of a repository or a name; None where there is none."""
    specs, hub = shipped_specs(), _hub_source(argument)
    stem = argument if argument in specs else _shipped_for(hub.repo) if hub and not Path(argument).is_dir() else None
    return None if stem is None else specs[stem]


def _of_checkpoint(identity: Identity, overrides: Sequence[str]) -> Resolved:
    from qwen3_compile.resolve.made import made_spec, spec_name

    own = [f"model.source={json.dumps(identity.source)}", f"name={json.dumps(spec_name(identity.name))}"]
    if (twin := _twin(identity)) is not None:
        spec, origin = load_spec(shipped_specs()[twin], [*own, *overrides]), f"the shipped spec {twin}, by dimensions"
    else:
        where = f"<made from {CONFIG} of {identity.source}>"
        spec = parse_spec(made_spec(identity), path=where, overrides=overrides)
        origin = f"created from {CONFIG} (task {identity.task}, by {identity.task_from})"
    # Read again as counting from here: a relative source is one of the command line.
    return Resolved(spec_from_mapping(spec.resolved(), where=origin, base_dir=Path()), origin)


def _twin(identity: Identity) -> str | None:
    """The one shipped spec of a model that agrees with the checkpoint in all that it states; None for none or many."""
    from qwen3_compile.checkpoint.schemes import StoredFormat

    found = []
    for stem, path in shipped_specs().items():
        spec = load_spec(path)
        precision, thinking = spec.precision, spec.chat.thinking if spec.chat and identity.thinking else None
        stored = StoredFormat("fp8", fp8_scales=precision.fp8_scales) if precision.weights == "fp8" else StoredFormat()
        if (spec.model.task, thinking, stored) != (identity.task, identity.thinking, identity.stored):
            continue
        if _dimensions(spec.graph_architecture()) == _dimensions(identity.architecture):
            found.append(stem)
    named = [stem for stem in found if stem == identity.name.lower()]
    return named[0] if named else found[0] if len(found) == 1 else None


def _dimensions(architecture: Architecture) -> Architecture:
    """What weights have: a spec may scale RoPE otherwise, and a mixture of experts may have no dense layer."""
    width = 1 if architecture.is_moe and not architecture.dense_layers else architecture.intermediate_size
    return replace(architecture, yarn=None, rope_factor=1.0, intermediate_size=width)


def _spec_file(argument: str) -> Path:
    try:
        return find_spec(argument)
    except SpecError as error:
        if Path(argument).suffix in (".yaml", ".yml") or "did you mean" in str(error):
            raise
        raise SpecError(f"{error}{_suggestion(argument)}") from None


def _hub_source(argument: str) -> HubSource | None:
    """`org/name[@revision]`, with or without `hf://`, as a source; None where it has another form."""
    if Path(argument).suffix in (".yaml", ".yml"):
        return None
    try:
        source = parse_source(argument if argument.startswith("hf://") else f"hf://{argument}")
    except ValueError:
        return None
    return source if isinstance(source, HubSource) else None


def _shipped_for(repo: str) -> str | None:
    return next((stem for stem, known in shipped_repositories().items() if known.lower() == repo.lower()), None)


def _require_there(argument: str) -> None:
    """Refuse what can only be a path, and leads nowhere."""
    folder = Path(argument)
    if argument.startswith(("./", "../", "/", "~/")) and not folder.exists():
        near = _beside(folder)
        raise SpecError(f"{argument}: no such file or folder{near and f'; {near}'}")


def _beside(missing: Path) -> str:
    """The engine or checkpoint in the same folder whose name is nearest, as a question; empty where there is none."""
    near = get_close_matches(missing.name, _models_in(missing.parent), n=1, cutoff=0.75)
    return f"did you mean {missing.with_name(near[0])}?" if near else ""


def _models_in(folder: Path) -> list[str]:
    try:
        return [path.parent.name for file in (MANIFEST, CONFIG) for path in sorted(folder.glob(f"*/{file}"))]
    except OSError:
        return []


def _suggestion(argument: str) -> str:
    known = {name.lower(): name for name in (*shipped_specs(), *shipped_repositories().values())}
    name = argument.partition("@")[0].removeprefix("hf://").lower()
    near = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {known[near[0]]}?" if near else ""


def _require_checkpoint(folder: Path, argument: str) -> None:
    if (folder / CONFIG).is_file():
        return
    if (folder / MANIFEST).is_file():
        raise SpecError(f"{argument}: an engine, expected a spec or a model; --locked {argument} builds it again")
    if not any(folder.glob("adapter_*")):  # an adapter is named as one where it is opened
        raise SpecError(f"{argument}: a folder without {CONFIG}, expected a spec (a YAML file) or a checkpoint")
