"""llama.cpp through the low-level interface of llama-cpp-python: decoding, logits, quantizing."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np

from peers.measuring import Durations, greedy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE_TYPES = {"q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}
STEP_TOKENS = 512  # llama.cpp's own default
ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR, which the package does not export


class LlamaModel:
    """A GGUF file with one sequence and a float16 cache; a `Model`."""

    def __init__(self, path: Path, *, threads: int, context: int, flash_attention: bool) -> None:
        _be_quiet()
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, max(context, STEP_TOKENS), STEP_TOKENS
        params.n_threads = params.n_threads_batch = threads
        kinds = (llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        params.flash_attn_type = kinds[flash_attention]
        self._context: Any = llama_cpp.llama_init_from_model(self._model, params) if self._model else None
        if not self._context:
            message = f"{path}: llama.cpp cannot open it"
            raise RuntimeError(message)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def generate(self, prompt: NDArray[np.int64], new: int) -> Durations:
        """Continue a prompt greedily; see `Model`."""
        self._clear()
        return greedy(self._step, prompt, new)

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits float32 [n, vocab] after each of n tokens."""
        self._clear()
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for at, token in enumerate(ids):
                batch.token[at], batch.pos[at], batch.logits[at] = int(token), at, 1
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
            self._decode(batch)
        finally:
            llama_cpp.llama_batch_free(batch)
        rows = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(rows, (len(ids), self._vocab)).copy()

    def _step(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        tokens = (llama_cpp.llama_token * len(ids))(*ids.tolist())
        self._decode(llama_cpp.llama_batch_get_one(tokens, len(ids)))
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), (self._vocab,))

    def _decode(self, batch: Any) -> None:  # noqa: ANN401 - a ctypes structure
        if status := llama_cpp.llama_decode(self._context, batch):
            message = f"llama_decode failed with status {status}"
            raise RuntimeError(message)

    def _clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)


def quantize(source: Path, result: Path, kind: str, *, pure: bool, threads: int) -> None:
    """Write `source` in another type.

    Args:
        source: GGUF file of floats.
        result: GGUF file to write.
        kind: key of `FILE_TYPES`.
        pure: every matrix in that type; otherwise llama.cpp gives some, such as the head, more bits.
        threads: to use.
    """
    _be_quiet()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread = FILE_TYPES[kind], pure, threads
    names = (str(source).encode(), str(result).encode())
    if status := llama_cpp.llama_model_quantize(*names, ctypes.byref(params)):
        message = f"{source}: quantizing to {kind} failed with status {status}"
        raise RuntimeError(message)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # llama_cpp has no types where it is not installed
def _show_errors(level: int, text: bytes, _: Any) -> None:  # noqa: ANN401 - a void pointer
    if level == ERROR_LEVEL:
        sys.stderr.write(text.decode(errors="replace"))


def _be_quiet() -> None:
    llama_cpp.llama_log_set(_show_errors, ctypes.c_void_p(0))
