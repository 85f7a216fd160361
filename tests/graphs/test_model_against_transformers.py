"""The eager model computes what transformers computes, however its tokens are cut into steps.

Covers: dense, MoE, YaRN; prefill, chunks, decode, ragged batches, a paged cache
Reference: `transformers` in float32, on random checkpoints of two to four layers
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import Paging, schedule
from twins import DENSE, MIXED, MOE, ours, twin

from qwen3_graphs import reference
from qwen3_graphs.architecture import Architecture, YarnScaling
from qwen3_graphs.model import Batch

MAX_CONTEXT = 96

YARN = YarnScaling(factor=4.0, original_max_position_embeddings=24)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    kv_heads, ratio = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    experts = draw(st.sampled_from([0, 4, 7, 16]))
    layers = draw(st.integers(2, 4))
    return Architecture(
        vocab_size=draw(st.integers(20, 90)),
        hidden_size=draw(st.sampled_from([16, 24, 40])),
        intermediate_size=draw(st.sampled_from([20, 48])),
        num_hidden_layers=layers,
        num_attention_heads=kv_heads * ratio,
        num_key_value_heads=kv_heads,
        head_dim=draw(st.sampled_from([4, 8, 18, 32])),
        max_position_embeddings=MAX_CONTEXT,
        rope_theta=draw(st.sampled_from([10_000.0, 1_000_000.0])),
        tie_word_embeddings=draw(st.booleans()),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-3])),
        num_experts=experts,
        num_experts_per_tok=draw(st.integers(1, 4)) if experts else 0,
        moe_intermediate_size=draw(st.sampled_from([8, 20])) if experts else 0,
        norm_topk_prob=draw(st.booleans()),
        dense_layers=draw(st.sampled_from([(), (0,), (1,), tuple(range(1, layers))])) if experts else (),
        yarn=draw(st.sampled_from([None, YARN, dataclasses.replace(YARN, attention_factor=1.3, beta_fast=8.0)])),
    )


def assert_equal_to_transformers(architecture: Architecture, lengths: list[int], block: int, chunk: int, seed: int):
    rng = np.random.default_rng(seed)
    theirs, weights = twin(architecture, seed)
    model = ours(architecture, weights, MAX_CONTEXT)
    sequences = [rng.integers(0, architecture.vocab_size, length) for length in lengths]
    paging = Paging.shuffled(lengths, block, rng)
    # What nobody has written must not matter: NaN would show in any answer that it reached.
    shape = (paging.num_blocks, 2, architecture.num_key_value_heads, block, architecture.head_dim)
    caches = [torch.full(shape, torch.nan) for _ in range(architecture.num_hidden_layers)]
    with torch.no_grad():
        expected = [theirs(torch.from_numpy(tokens)[None]).logits[0] for tokens in sequences]
        for step in schedule(sequences, paging, rng, chunk):
            ids, starts, context, table, rows = (
                torch.from_numpy(getattr(step, field.name)) for field in dataclasses.fields(step)[:5]
            )
            logits, caches = model(ids, Batch(starts, context, table), rows, caches)
            wanted = torch.stack([expected[sequence][position] for sequence, position in step.answers])
            torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    architectures(),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.sampled_from([1, 2, 5, 16, 64]),
    st.sampled_from([1, 4, 40]),
    st.integers(0, 1000),
)
def test_logits_equal_transformers_for_any_dimensions_paging_and_schedule(architecture, lengths, block, chunk, seed):
    assert_equal_to_transformers(architecture, lengths, block, chunk, seed)


@pytest.mark.parametrize(
    "architecture", [DENSE, MOE, dataclasses.replace(DENSE, yarn=YARN)], ids=["dense", "moe", "yarn"]
)
def test_decoding_one_token_at_a_time_equals_transformers_to_the_end_of_the_context(architecture):
    assert_equal_to_transformers(architecture, [MAX_CONTEXT, 3], block=16, chunk=1, seed=5)


@pytest.mark.parametrize("architecture", [DENSE, MOE], ids=["dense", "moe"])
def test_hidden_output_is_the_last_hidden_state_of_transformers(architecture):
    theirs, weights = twin(architecture, 3)
    model = ours(architecture, weights, MAX_CONTEXT, output="hidden")
    ids = torch.arange(9) * 5 % architecture.vocab_size
    batch = Batch(*(torch.tensor(x, dtype=torch.int32) for x in ([0, 9], [0], [[0]])))
    cache = torch.zeros(1, 2, architecture.num_key_value_heads, 16, architecture.head_dim)
    with torch.no_grad():
        hidden, _ = model(ids, batch, torch.tensor([8, 2]), [cache] * architecture.num_hidden_layers)
        expected = theirs.model(ids[None]).last_hidden_state[0, [8, 2]]
    torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", [DENSE, MOE, MIXED], ids=["dense", "moe", "mixed"])
def test_streamed_reference_equals_transformers_on_packed_sequences(architecture):
    theirs, weights = twin(architecture, 11)
    sequences = [torch.arange(n) * 7 % architecture.vocab_size for n in (13, 1, 30)]
    starts = torch.tensor([0, 13, 14, 44], dtype=torch.int32)
    asked = []

    def load(name: str) -> torch.Tensor:
        asked.append(name)
        return weights[name]

    logits = reference.forward(architecture, load, torch.cat(sequences), starts)
    with torch.no_grad():
        expected = torch.cat([theirs(tokens[None]).logits[0] for tokens in sequences])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    layers = [int(name.split(".")[2]) for name in asked if ".layers." in name]
    assert layers == sorted(layers), "a layer's weights are asked for together, and once"
    assert set(asked) == set(weights)


@pytest.mark.parametrize("architecture", [DENSE, MOE], ids=["dense", "moe"])
def test_reference_widens_bfloat16_weights_to_float32_arithmetic(architecture):
    theirs, weights = twin(architecture, 2)
    narrow = {name: weight.bfloat16() for name, weight in weights.items()}
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(parameter.bfloat16())
    ids = torch.arange(20) % architecture.vocab_size
    logits = reference.forward(architecture, narrow.__getitem__, ids, torch.tensor([0, 20], dtype=torch.int32))
    with torch.no_grad():
        torch.testing.assert_close(logits, theirs(ids[None]).logits[0], rtol=1e-5, atol=1e-5)


def test_a_weight_of_another_shape_is_named():
    _, weights = twin(DENSE, 0)
    name = "model.layers.1.self_attn.k_proj.weight"
    weights[name] = weights[name][:-1]
    with pytest.raises(ValueError, match=r"k_proj.weight: expected shape \[16, 24\], found \[15, 24\]"):
        reference.load_layer(DENSE, 1, weights.__getitem__)


@pytest.mark.parametrize(
    ("table", "context", "message"),
    [
        ([[0, -1]], 0, "reaches 6 tokens, but its row of block_table"),
        ([[0, 1]], 93, "reaches 99 tokens, but cos and sin"),
    ],
)
def test_a_step_beyond_its_blocks_or_positions_is_refused(table, context, message):
    _, weights = twin(DENSE, 0)
    batch = Batch(*(torch.tensor(x, dtype=torch.int32) for x in ([0, 6], [context], table)))
    cache = torch.zeros(2, 2, DENSE.num_key_value_heads, 4, DENSE.head_dim)
    with pytest.raises(ValueError, match=message), torch.no_grad():
        ours(DENSE, weights, MAX_CONTEXT)(torch.arange(6), batch, torch.tensor([5]), [cache] * 3)
