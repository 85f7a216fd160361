"""Logits of llama.cpp for given tokens: python -m peers.llama_logits FILE.gguf IDS.json RESULT, raw float32."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from peers.llama_model import LlamaModel
from peers.measuring import THREADS


def main() -> None:
    """Write what the arguments ask for."""
    path, ids, result = map(Path, sys.argv[1:])
    tokens = np.array(json.loads(ids.read_text(encoding="utf-8")), np.int64)
    model = LlamaModel(path, threads=THREADS, context=len(tokens), flash_attention=False)
    model.logits(tokens).tofile(result)


if __name__ == "__main__":
    main()
