"""Static scales of matrices' inputs, for engines that multiply eight-bit inputs with eight-bit weights."""

from __future__ import annotations

from qwen3_compile.calibrate.scales import InputKind, input_scale_name, measure_activation_scales
from qwen3_compile.calibrate.texts import collect_sequences

__all__ = ["InputKind", "collect_sequences", "input_scale_name", "measure_activation_scales"]
