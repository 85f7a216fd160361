"""Who is measured: one line for each contender. A new one is a line here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

EngineName = Literal["ours", "llama.cpp", "llama.cpp for AVX2", "onnxruntime-genai", "openvino-genai"]
CheckpointName = Literal["dense", "moe"]


@dataclass(frozen=True)
class Contender:
    """An engine, a model in one of its formats, and how it is run.

    Attributes:
        name: in results and on the command line; unique.
        engine: whose.
        checkpoint: the weights, by their name in `checkpoint.py`.
        bits: bits of a weight of the layers, nominally.
        model: the prepared model's name; contenders that only run differently share one.
        recipe: what prepares the model: overrides of our spec, a GGUF type, or options of an exporter.
        flags: arguments of the worker.
        environment: variables of the worker.
    """

    name: str
    engine: EngineName
    checkpoint: CheckpointName
    bits: int
    model: str
    recipe: tuple[str, ...]
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.engine == "ours"


# Ending of the name of a contender that is held to AVX2, on a processor that has more. onnxruntime-genai cannot be, nor
# openvino-genai: under ONEDNN_MAX_CPU_ISA=AVX2 its int4 layers fail.
AVX2 = "-avx2"
_AVX2 = {"QWEN3_ORT_KERNELS": "avx2"}
_LLAMA_AVX2: EngineName = "llama.cpp for AVX2"
_INT4_32 = ("precision={weights: int4, group_size: 32, kv_cache: fp16}",)
_INT4_128 = ("precision={weights: int4, group_size: 128, kv_cache: fp16}",)
_INT8 = ("precision={weights: int8, group_size: channel, kv_cache: fp16}",)
_FP8 = ("precision={weights: fp8, kv_cache: fp16}",)
_GENAI = ("accuracy_level=4", "prune_lm_head=true")
_PLAIN, _FLASH = ("--flash-attention", "0"), ("--flash-attention", "1")

CONTENDERS = (
    Contender("ours-int4-g32", "ours", "dense", 4, "ours-int4-g32", _INT4_32, ("--batch", "8")),
    Contender("ours-int4-g32-avx2", "ours", "dense", 4, "ours-int4-g32", _INT4_32, ("--batch", "8"), _AVX2),
    Contender("ours-int4-g128", "ours", "dense", 4, "ours-int4-g128", _INT4_128),
    Contender("ours-int4-g128-avx2", "ours", "dense", 4, "ours-int4-g128", _INT4_128, (), _AVX2),
    Contender("ours-int8", "ours", "dense", 8, "ours-int8", _INT8),
    Contender("ours-int8-avx2", "ours", "dense", 8, "ours-int8", _INT8, (), _AVX2),
    Contender("ours-fp8", "ours", "dense", 8, "ours-fp8", _FP8),
    Contender("ours-fp8-avx2", "ours", "dense", 8, "ours-fp8", _FP8, (), _AVX2),
    Contender("llama-q4_0", "llama.cpp", "dense", 4, "llama-q4_0", ("q4_0",), _PLAIN),
    Contender("llama-q4_0-fa", "llama.cpp", "dense", 4, "llama-q4_0", ("q4_0",), _FLASH),
    Contender("llama-q4_0-avx2", _LLAMA_AVX2, "dense", 4, "llama-q4_0", ("q4_0",), _PLAIN),
    Contender("llama-q4_0-fa-avx2", _LLAMA_AVX2, "dense", 4, "llama-q4_0", ("q4_0",), _FLASH),
    Contender("llama-q8_0", "llama.cpp", "dense", 8, "llama-q8_0", ("q8_0",), _PLAIN),
    Contender("llama-q8_0-avx2", _LLAMA_AVX2, "dense", 8, "llama-q8_0", ("q8_0",), _PLAIN),
    Contender("genai-int4-g32", "onnxruntime-genai", "dense", 4, "genai-int4-g32", ("int4", "block_size=32", *_GENAI)),
    Contender(
        "genai-int4-g128", "onnxruntime-genai", "dense", 4, "genai-int4-g128", ("int4", "block_size=128", *_GENAI)
    ),
    Contender("openvino-int4-g128", "openvino-genai", "dense", 4, "openvino-int4-g128", ("int4", "128")),
    Contender("openvino-int8", "openvino-genai", "dense", 8, "openvino-int8", ("int8",)),
    Contender("ours-moe-int4-g32", "ours", "moe", 4, "ours-moe-int4-g32", _INT4_32),
    Contender("ours-moe-int4-g32-avx2", "ours", "moe", 4, "ours-moe-int4-g32", _INT4_32, (), _AVX2),
    Contender("llama-moe-q4_0", "llama.cpp", "moe", 4, "llama-moe-q4_0", ("q4_0",), _PLAIN),
    Contender("llama-moe-q4_0-fa", "llama.cpp", "moe", 4, "llama-moe-q4_0", ("q4_0",), _FLASH),
    Contender("llama-moe-q4_0-avx2", _LLAMA_AVX2, "moe", 4, "llama-moe-q4_0", ("q4_0",), _PLAIN),
    Contender("llama-moe-q4_0-fa-avx2", _LLAMA_AVX2, "moe", 4, "llama-moe-q4_0", ("q4_0",), _FLASH),
)
