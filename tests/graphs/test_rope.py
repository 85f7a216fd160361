"""The position tables are those of transformers, with the precision that long contexts need.

Reference: `transformers`' rotary module, and float64
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding
from twins import DENSE

from qwen3_graphs.architecture import YarnScaling
from qwen3_graphs.rope import rope_tables


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([2, 8, 64, 128]),
    st.sampled_from([1e4, 1e6, 5e6, 1e7]),
    st.none()
    | st.builds(
        YarnScaling,
        factor=st.floats(1.0, 16.0),
        original_max_position_embeddings=st.sampled_from([64, 4096, 32768]),
        attention_factor=st.none() | st.floats(0.5, 2.0),
        beta_fast=st.floats(16.0, 64.0),
        beta_slow=st.floats(0.5, 2.0),
    ),
)
def test_tables_equal_transformers(head_dim, theta, yarn):
    architecture = dataclasses.replace(DENSE, head_dim=head_dim, rope_theta=theta, yarn=yarn)
    rope = {"rope_type": "default"} if yarn is None else {"rope_type": "yarn", **dataclasses.asdict(yarn)}
    config = Qwen3Config(head_dim=head_dim, rope_parameters={"rope_theta": theta, **rope})
    # Their angles are float32 products: at position 64 good to about 1e-5.
    cos, sin = Qwen3RotaryEmbedding(config)(torch.zeros(()), torch.arange(64)[None])
    found = rope_tables(architecture, 64)
    np.testing.assert_allclose(found[0], cos[0, :, : head_dim // 2], atol=3e-5)
    np.testing.assert_allclose(found[1], sin[0, :, : head_dim // 2], atol=3e-5)


def test_tables_are_exact_to_float32_at_the_end_of_a_long_context():
    architecture = dataclasses.replace(DENSE, head_dim=128, rope_theta=1e6)
    cos, sin = rope_tables(architecture, 40_960)
    # The slow road: reduce the angle in extended precision before the sine.
    angle = np.longdouble(40_959) * np.longdouble(1e6) ** -(np.arange(0, 128, 2, dtype=np.longdouble) / 128)
    turn = np.remainder(angle, 2 * np.longdouble("3.14159265358979323846264338327950288"))
    np.testing.assert_allclose(cos[-1], np.cos(turn).astype(np.float64), atol=1e-7)
    np.testing.assert_allclose(sin[-1], np.sin(turn).astype(np.float64), atol=1e-7)


@pytest.mark.parametrize(("head_dim", "context", "message"), [(7, 8, "even head_dim, found 7"), (8, 0, "found 0")])
def test_impossible_tables_are_refused(head_dim, context, message):
    with pytest.raises(ValueError, match=message):
        rope_tables(dataclasses.replace(DENSE, head_dim=head_dim), context)
