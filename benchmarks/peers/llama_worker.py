"""Measures llama.cpp: python -m peers.llama_worker FILE.gguf --flash-attention 0|1."""

from __future__ import annotations

from peers.llama_model import LlamaModel
from peers.measuring import run_worker, worker_arguments


def main() -> None:
    """Measure the model that the arguments name."""
    parser = worker_arguments()
    parser.add_argument("--flash-attention", type=int, choices=(0, 1), default=0)
    a = parser.parse_args()
    run_worker(
        lambda: LlamaModel(
            a.model, threads=a.threads, context=a.lengths.context, flash_attention=bool(a.flash_attention)
        ),
        a,
    )


if __name__ == "__main__":
    main()
