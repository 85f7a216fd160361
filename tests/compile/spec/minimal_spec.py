"""A small spec that is whole, and what is said of it once it is changed."""

import pytest

from qwen3_compile.errors import SpecError
from qwen3_compile.spec import parse_spec

MINIMAL = """\
schema_version: 2
name: tiny
model:
  source: ../checkpoint
  architecture:
    vocab_size: 1000
    hidden_size: 256
    intermediate_size: 512
    num_hidden_layers: 2
    num_attention_heads: 4
    num_key_value_heads: 2
    head_dim: 32
    max_position_embeddings: 4096
    rope_theta: 1e6
    tie_word_embeddings: true
    rms_norm_eps: 1e-6
precision:
  weights: int4
limits:
  max_context: 2048
"""
MOE = [
    f"model.architecture.{value}" for value in ("num_experts=8", "num_experts_per_tok=2", "moe_intermediate_size=64")
]
YARN = "rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 2048}"


def spec(*overrides, text=MINIMAL):
    return parse_spec(text, path="dir/tiny.yaml", overrides=overrides)


def errors(*overrides, text=MINIMAL):
    with pytest.raises(SpecError) as caught:
        spec(*overrides, text=text)
    return str(caught.value).splitlines()


def error(*overrides, text=MINIMAL):
    (line,) = errors(*overrides, text=text)
    return line
