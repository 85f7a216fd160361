"""A tiny engine of target ort with plugins in memory: packed steps over a paged cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from lowered_engine import LIMITS, attach, semantic
from steps import STEP, PackedStep, Paging, feed

from qwen3_graphs.lower import lower
from qwen3_plugins.ort import library_path, why_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.lowered import Precision


@dataclass
class PackedEngine:
    """A session of the lowered graph; caches are given with each call and written in place."""

    architecture: Architecture
    formats: Precision
    session: ort.InferenceSession

    def caches(self, paging: Paging) -> dict[str, np.ndarray]:
        """Caches full of values that would show if they were ever read."""
        shape = (paging.num_blocks, 2, self.architecture.num_key_value_heads, paging.block_size)
        found = {}
        for layer in range(self.architecture.num_hidden_layers):
            if self.formats.kv_cache == "int8":
                found[f"kv.{layer}"] = np.full((*shape, self.architecture.head_dim), 99, np.int8)
                found[f"kv_scales.{layer}"] = np.full(shape, np.nan, np.float32)
            else:
                found[f"kv.{layer}"] = np.full((*shape, self.architecture.head_dim), np.nan, np.float16)
        return found

    def run(self, step: PackedStep, caches: dict[str, np.ndarray]) -> np.ndarray:
        """Outputs of the step's `logits_rows`."""
        return self.run_all(step, caches, top_k=0)[0]

    def run_all(self, step: PackedStep, caches: dict[str, np.ndarray], *, top_k: int) -> list[np.ndarray]:
        """All outputs; of a head: logits, the largest of them, their ids, and the log-sum-exp."""
        given = {name: getattr(step, name) for name in STEP} | caches
        if len(self.session.get_outputs()) > 1:
            numbers = {"live_vocab": self.architecture.vocab_size, "top_k": top_k}
            given |= {name: np.array(value, np.int32) for name, value in numbers.items()}
        binding = self.session.io_binding()
        for name, array in given.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for output in self.session.get_outputs():
            binding.bind_output(output.name)
        self.session.run_with_iobinding(binding)
        return [output.numpy() for output in binding.get_outputs()]

    def feed(
        self, sequences: Sequence[np.ndarray], *, block_size: int, seed: int, largest_chunk: int
    ) -> list[tuple[int, int, np.ndarray]]:
        """Feed all sequences by a random schedule over a permuted pool; rows as (sequence, position, output)."""
        rng = np.random.default_rng(seed)
        paging = Paging.shuffled([len(tokens) for tokens in sequences], block_size, rng)
        caches = self.caches(paging)
        return feed(lambda step: self.run(step, caches), sequences, paging, rng, largest_chunk)


def packed_engine(
    architecture: Architecture,
    formats: Precision,
    *,
    output: str = "logits",
    quantized_activations: bool = True,
    threads: int = 1,
) -> PackedEngine:
    """Lower, pack and open; `quantized_activations` gives integer matrices int8 inputs."""
    library = library_path()
    assert library is not None, why_missing()
    asked = replace(formats, quantized_activations=quantized_activations)
    proto = attach(lower(semantic(architecture, output), "ort_plugins", asked, LIMITS), architecture)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return PackedEngine(architecture, formats, session)


def whole(tokens: Sequence[np.ndarray], block_size: int) -> tuple[PackedStep, Paging]:
    """One step that prefills all sequences and asks for every row."""
    lengths = [len(part) for part in tokens]
    paging = Paging.shuffled(lengths, block_size, np.random.default_rng(0))
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    step = PackedStep(
        np.concatenate(tokens).astype(np.int64),
        starts,
        np.zeros(len(tokens), np.int32),
        np.ascontiguousarray(paging.table),
        np.arange(starts[-1], dtype=np.int32),
        [(number, place) for number, length in enumerate(lengths) for place in range(length)],
    )
    return step, paging
