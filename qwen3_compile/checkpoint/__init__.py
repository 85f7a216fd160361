"""Lazy reading of Qwen3 checkpoints: folders of safetensors, the Hugging Face Hub, synthetic weights."""

from qwen3_compile.checkpoint.contract import Checkpoint, SourceFile, TensorInfo
from qwen3_compile.checkpoint.names import expected_tensors
from qwen3_compile.checkpoint.opening import open_checkpoint

__all__ = ["Checkpoint", "SourceFile", "TensorInfo", "expected_tensors", "open_checkpoint"]
