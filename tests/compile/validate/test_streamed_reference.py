"""The layer-streamed reference, against transformers running the whole model at once.

Reference: `transformers` running the whole model
"""

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.validate.reference import Reference

COMMON = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
}


def make(kind, dtype, tied, folder):
    torch.manual_seed(0)
    if kind == "dense":
        model = Qwen3ForCausalLM(Qwen3Config(**COMMON, tie_word_embeddings=tied))
    else:
        config = Qwen3MoeConfig(
            **COMMON, moe_intermediate_size=24, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
            tie_word_embeddings=tied,
        )  # fmt: skip
        model = Qwen3MoeForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.to(dtype).save_pretrained(folder)
    # Read again: `to` rounds the rotary frequencies too, which no checkpoint stores.
    return type(model).from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_several_sequences_equal_transformers(kind, dtype, tied, tmp_path):
    model = make(kind, dtype, tied, tmp_path)
    checkpoint = open_checkpoint(str(tmp_path), base_dir=tmp_path)
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 97, size=n) for n in (1, 17, 40)]
    states = reference.hidden_states(sequences)
    for ids, found in zip(sequences, states, strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(ids)[None]).logits[0].numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(reference.read_out(found), expected, atol=2e-5 * scale)


def test_a_position_is_read_out_alike_alone_and_among_others(tmp_path):
    make("dense", torch.float32, True, tmp_path)
    checkpoint = open_checkpoint(str(tmp_path), base_dir=tmp_path)
    reference = Reference(checkpoint, checkpoint.architecture, "hidden")
    (states,) = reference.hidden_states([np.arange(20)])
    together = reference.read_out(states)
    assert together.shape == (20, 32)
    np.testing.assert_allclose(reference.read_out(states[7:8]), together[7:8], rtol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_greedy_continuations_of_several_sequences_equal_transformers(kind, tmp_path):
    model = make(kind, torch.float32, False, tmp_path)
    checkpoint = open_checkpoint(str(tmp_path), base_dir=tmp_path)
    reference = Reference(checkpoint, checkpoint.architecture, "logits")
    rng = np.random.default_rng(1)
    sequences, counts = [rng.integers(0, 97, size=n) for n in (1, 9, 23, 5)], [6, 1, 8, 0]
    expected = []
    for ids, count in zip(sequences, counts, strict=True):
        options = {"max_new_tokens": max(count, 1), "do_sample": False, "eos_token_id": None}
        expected.append(model.generate(torch.from_numpy(ids)[None], **options)[0, ids.size :].tolist()[:count])
    found = reference.continue_greedily(sequences, counts, vocabulary=97, stops=())
    assert [tokens.tolist() for tokens in found] == expected
    stop = expected[2][3]
    stopped = reference.continue_greedily(sequences, counts, vocabulary=97, stops={stop})
    assert stopped[2].tolist() == expected[2][: expected[2].index(stop) + 1]
    below = reference.continue_greedily(sequences, counts, vocabulary=40, stops=())
    assert max(map(max, (tokens for tokens in below if tokens.size))) < 40
