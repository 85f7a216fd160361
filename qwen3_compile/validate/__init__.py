"""Cross-validation of an engine against eager PyTorch in float32.

The reference runs the checkpoint's own weights a layer at a time, so that a model larger than memory can be
judged; the engine runs the same tokens through prefill, chunked prefill, decode and a ragged batch.
"""

from __future__ import annotations

from qwen3_compile.validate.published import revalidate
from qwen3_compile.validate.report import AccuracyReport, read_json
from qwen3_compile.validate.run import write_report

__all__ = ["AccuracyReport", "read_json", "revalidate", "write_report"]
