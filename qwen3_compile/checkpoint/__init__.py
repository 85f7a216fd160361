"""Lazy reading of Qwen3 checkpoints: folders of safetensors, the Hugging Face Hub, synthetic weights."""

from qwen3_compile.checkpoint.names import expected_tensors
from qwen3_compile.checkpoint.opening import open_checkpoint
from qwen3_compile.checkpoint.protocol import Checkpoint, SourceFile, TensorInfo

__all__ = ["Checkpoint", "SourceFile", "TensorInfo", "expected_tensors", "open_checkpoint"]
