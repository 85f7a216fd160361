"""Measures openvino-genai: python -m peers.openvino_worker FOLDER."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino
import openvino_genai

from peers.measuring import Durations, run_worker, worker_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class OpenvinoModel:
    """A folder that optimum-intel made; a `Model`."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self._pipeline = openvino_genai.LLMPipeline(str(path), "CPU", INFERENCE_NUM_THREADS=threads)

    def generate(self, prompt: NDArray[np.int64], new: int) -> Durations:
        """Continue a prompt greedily; see `Model`. The pipeline times itself."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = new
        config.ignore_eos, config.do_sample = True, False
        ids = prompt[None].astype(np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        metrics = self._pipeline.generate(inputs, config).perf_metrics
        milliseconds = metrics.get_ttft().mean
        others = metrics.get_tpot().mean * (new - 1) if new > 1 else 0.0
        return Durations(milliseconds / 1e3, others / 1e3)


def main() -> None:
    """Measure the model that the arguments name."""
    arguments = worker_arguments().parse_args()
    run_worker(lambda: OpenvinoModel(arguments.model, threads=arguments.threads), arguments)


if __name__ == "__main__":
    main()
