"""Measures onnxruntime-genai: python -m peers.genai_worker FOLDER."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime_genai as og

from peers.measuring import Durations, run_worker, worker_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NEVER = 151_935
"""An id beyond the trained vocabulary, in place of the end of turn: every run is as long as it was asked to be."""


class GenaiModel:
    """A folder that the model builder made; a `Model`."""

    def __init__(self, path: Path, *, threads: int) -> None:
        config = og.Config(str(path))
        options = {"session_options": {"intra_op_num_threads": threads, "inter_op_num_threads": 1}}
        config.overlay(json.dumps({"model": {"eos_token_id": [NEVER], "decoder": options}}))
        self._model = og.Model(config)

    def generate(self, prompt: NDArray[np.int64], new: int) -> Durations:
        """Continue a prompt greedily; see `Model`."""
        params = og.GeneratorParams(self._model)
        length = len(prompt) + new
        params.set_search_options(do_sample=False, max_length=length, min_length=length)
        generator = og.Generator(self._model, params)
        start = time.perf_counter()
        generator.append_tokens(prompt.astype(np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(new - 1):
            generator.generate_next_token()
        return Durations(first - start, time.perf_counter() - first)


def main() -> None:
    """Measure the model that the arguments name."""
    arguments = worker_arguments().parse_args()
    run_worker(lambda: GenaiModel(arguments.model, threads=arguments.threads), arguments)


if __name__ == "__main__":
    main()
