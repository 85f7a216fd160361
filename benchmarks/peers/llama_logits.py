"""Logits of llama.cpp for given sequences: python -m peers.llama_logits FILE.gguf IDS.json RESULT, raw float32."""

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
    sequences = [np.array(tokens, np.int64) for tokens in json.loads(ids.read_text(encoding="utf-8"))]
    model = LlamaModel(path, threads=THREADS, context=max(map(len, sequences)), flash_attention=False)
    with result.open("wb") as file:
        for tokens in sequences:
            model.logits(tokens).tofile(file)


if __name__ == "__main__":
    main()
