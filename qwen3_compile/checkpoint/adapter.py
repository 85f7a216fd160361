"""LoRA adapters look like checkpoints and are none: they are named as what they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.json_file import read_json_object
from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model*"
_LORA = re.compile(r"(^|\.)(lora_(A|B|embedding_A|embedding_B|magnitude_vector)|base_layer)\.")
_MAX_CONFIG_BYTES = 1_000_000
_MERGE = "merge it into the model first (peft: merge_and_unload, then save_pretrained) and name the merged folder"


def refuse_adapter(folder: Path, *, has_model: bool) -> None:
    """Refuse a folder that holds an adapter and no model.

    Raises:
        CheckpointError: it does; the line names the model that the adapter is for, where that is written.
    """
    config = folder / ADAPTER_CONFIG
    if has_model or not (config.is_file() or any(folder.glob(_ADAPTER_WEIGHTS))):
        return
    model = (
        read_json_object(config, max_bytes=_MAX_CONFIG_BYTES).get("base_model_name_or_path") if config.is_file() else ""
    )
    of = f" of {model}" if isinstance(model, str) and model else ""
    raise CheckpointError(f"{folder}: expected a whole model, found an adapter{of} (LoRA): {_MERGE}")


def refuse_lora_tensors(names: Iterable[str], *, where: str) -> None:
    """Refuse weights among which an adapter's are still apart.

    Raises:
        CheckpointError: a tensor is one of LoRA's.
    """
    found = next((name for name in names if _LORA.search(name)), None)
    if found is not None:
        raise CheckpointError(f"{where}: expected merged weights, found {found} of an adapter (LoRA): {_MERGE}")
