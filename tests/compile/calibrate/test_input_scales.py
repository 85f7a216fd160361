"""Scales of matrices' inputs, against transformers' own modules and float64 arithmetic.

Covers: the input of every matrix, dense and MoE; the cache of calibration
Reference: hooks on `transformers`' modules; float64 for experts
"""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from qwen3_compile.calibrate import measure_activation_scales
from qwen3_compile.calibrate.observe import watched_states
from qwen3_compile.calibrate.scales import scale_of
from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.checkpoint.input_scales import with_input_scales
from qwen3_compile.checkpoint.weights import torch_weights
from qwen3_compile.errors import CheckpointError
from qwen3_runtime.text import Tokenizer

TINY = Path(__file__).parents[3] / "examples" / "tiny"
COMMON = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
}
EXPERTS = {"moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": True}
SEQUENCES = [np.random.default_rng(0).integers(0, 97, size=n) for n in (1, 17, 40)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """transformers' models in float32 and our checkpoints of them, by kind."""
    found = {}
    for kind in ("dense", "moe"):
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(1)
        if kind == "dense":
            model = Qwen3ForCausalLM(Qwen3Config(**COMMON, tie_word_embeddings=True))
        else:
            model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**COMMON, **EXPERTS, tie_word_embeddings=False))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
        model.save_pretrained(folder)
        found[kind] = (model.eval(), open_checkpoint(str(folder), base_dir=folder))
    return found


def module_inputs(model):
    """Largest magnitude of the input of each of transformers' matrices and MLPs, over the sequences one by one."""
    largest, handles = {}, []
    for name, module in model.named_modules():
        if not name.endswith(("_proj", ".mlp", "lm_head")):
            continue

        def note(_, inputs, name=name):
            largest[name] = max(largest.get(name, 0.0), inputs[0].abs().max().item())

        handles.append(module.register_forward_pre_hook(note))
    with torch.no_grad():
        for ids in SEQUENCES:
            model(torch.from_numpy(ids)[None])
    for handle in handles:
        handle.remove()
    return largest


def expert_hidden(model, layer):
    """Largest magnitude between the matrices of any chosen expert of a layer, in float64."""
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    seen = []
    handle = model.model.layers[layer].mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    module_inputs(model)
    handle.remove()
    x = torch.cat(seen).double()
    prefix = f"model.layers.{layer}.mlp."
    chosen = (x @ state[prefix + "gate.weight"].T).topk(EXPERTS["num_experts_per_tok"], dim=-1).indices
    both = torch.einsum("th,eih->tei", x, state[prefix + "experts.gate_up_proj"])
    gate, up = both.chunk(2, dim=-1)
    hidden = torch.nn.functional.silu(gate) * up
    return hidden.gather(1, chosen[..., None].expand(-1, -1, hidden.shape[-1])).abs().max().item()


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_every_matrix_has_the_scale_of_what_transformers_feeds_it(models, kind):
    model, checkpoint = models[kind]
    found = measure_activation_scales(checkpoint, checkpoint.architecture, SEQUENCES, "int8")
    largest = module_inputs(model)
    head = "model.embed_tokens" if kind == "dense" else "lm_head"
    expected = {f"{head}.input_scale": largest["lm_head"]}
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            expected[f"{prefix}self_attn.{name}.input_scale"] = largest[f"{prefix}self_attn.{name}"]
        for name in ("gate_proj", "up_proj", "down_proj"):
            if kind == "dense":
                expected[f"{prefix}mlp.{name}.input_scale"] = largest[f"{prefix}mlp.{name}"]
            elif name == "down_proj":
                expected[f"{prefix}mlp.experts.{name}.input_scale"] = expert_hidden(model, layer)
            else:
                expected[f"{prefix}mlp.experts.{name}.input_scale"] = largest[f"{prefix}mlp"]
    assert found.keys() == expected.keys()
    for name, amax in expected.items():
        # A code of 127 stands for at least the largest value, and for at most a rounding of eight bits more.
        assert amax * (1 - 1e-5) <= 127 * found[name] <= amax * (1 + 2.0**-7 + 1e-5), name


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_what_the_watcher_returns_is_what_is_multiplied(models, kind):
    model, checkpoint = models[kind]
    load = torch_weights(checkpoint, checkpoint.architecture)
    untouched = watched_states(checkpoint.architecture, load, SEQUENCES, lambda _, x: x)
    with torch.no_grad():
        expected = [model.model(torch.from_numpy(ids)[None]).last_hidden_state[0] for ids in SEQUENCES]
    torch.testing.assert_close(untouched, torch.cat(expected), rtol=1e-4, atol=1e-4)
    names = set()

    def blank(name, x):
        names.add(name)
        return torch.zeros_like(x) if name.endswith("_proj.weight") else x

    # Without any projection what is left is the embedding, normalized.
    blanked = watched_states(checkpoint.architecture, load, SEQUENCES, blank)
    with torch.no_grad():
        embedded = model.model.norm(model.model.embed_tokens(torch.from_numpy(np.concatenate(SEQUENCES))))
    torch.testing.assert_close(blanked, embedded, rtol=1e-5, atol=1e-5)
    assert len(names) == 2 * 7 + 1


def test_threads_change_no_scale(models):
    _, checkpoint = models["moe"]
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(measure_activation_scales(checkpoint, checkpoint.architecture, SEQUENCES, "int8"))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


@given(st.floats(1e-3, 1e6))
def test_int8_scales_are_bfloat16_and_barely_above_the_largest_over_127(amax):
    scale = scale_of(amax, "int8")
    assert float(ml_dtypes.bfloat16(scale)) == scale
    assert amax / 127 <= scale < amax / 127 * (1 + 2.0**-7)


@given(st.floats(1e-3, 1e6))
def test_fp8_scales_are_powers_of_two_with_room_for_twice_the_largest(amax):
    scale = scale_of(amax, "fp8")
    assert np.frexp(scale)[0] == 0.5
    assert 2 * amax <= 448 * scale < 4 * amax


def test_an_input_of_zeros_has_a_scale_of_one():
    assert scale_of(0.0, "int8") == scale_of(0.0, "fp8") == 1.0


def test_an_input_that_is_not_finite_is_named(models, monkeypatch):
    _, checkpoint = models["dense"]
    broken = "model.layers.1.post_attention_layernorm.weight"
    read = type(checkpoint).read

    def damaged(self, name):
        return np.full(32, np.inf, np.float32) if name == broken else read(self, name)

    monkeypatch.setattr(type(checkpoint), "read", damaged)
    with pytest.raises(CheckpointError, match=r"the input of model\.layers\.1\.mlp\.gate_proj\.weight is not finite"):
        measure_activation_scales(checkpoint, checkpoint.architecture, SEQUENCES, "fp8")


def test_scales_are_read_as_tensors_over_the_checkpoints_own(models):
    _, checkpoint = models["dense"]
    name = "model.layers.0.mlp.down_proj.input_scale"
    read = with_input_scales(checkpoint.read, {name: 0.25})
    assert read(name).dtype == np.float32
    assert read(name).shape == ()
    assert read(name) == 0.25
    norm = "model.norm.weight"
    np.testing.assert_array_equal(read(norm), checkpoint.read(norm))


def conversation(numbers):
    """What the tiny models were trained on: a sum, its running totals, the answer."""
    totals = np.cumsum(numbers)
    thinking = "\n".join(f"{a}+{n}={b}" for a, n, b in zip(totals[:-1], numbers[1:], totals[1:], strict=True))
    return (
        f"<|im_start|>user\nWhat is {'+'.join(map(str, numbers))}?<|im_end|>\n<|im_start|>assistant\n"
        f"<think>\n{thinking}\n</think>\n\nThe sum is {totals[-1]}.<|im_end|>\n"
    )


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("rounding", ["fp8", "int8"])
def test_rounding_a_trained_models_inputs_moves_it_little(kind, rounding):
    checkpoint, tokenizer = open_checkpoint(str(TINY / kind), base_dir=TINY), Tokenizer.open(TINY / kind)
    architecture, load = checkpoint.architecture, torch_weights(checkpoint, checkpoint.architecture)
    rng = np.random.default_rng(0)
    texts = [conversation(rng.integers(10, 100, size=count).tolist()) for count in (2, 3, 5, 8, 10, 2, 4, 6, 7, 9)]
    calibration, asked = ([np.array(tokenizer.encode(text)) for text in part] for part in (texts[:5], texts[5:]))
    scales = measure_activation_scales(checkpoint, architecture, calibration, rounding)

    def rounded(name, x):
        scale = scales[name.removesuffix(".weight") + ".input_scale"]
        if rounding == "int8":
            return torch.clamp(torch.round(x / scale), -128, 127) * scale
        return torch.clamp(x / scale, -448, 448).to(torch.float8_e4m3fn).float() * scale

    head = load("model.embed_tokens.weight" if kind == "dense" else "lm_head.weight").double()
    exact, found = (
        torch.log_softmax(watched_states(architecture, load, asked, watch).double() @ head.T, dim=-1)
        for watch in (lambda _, x: x, rounded)
    )
    divergence = (exact.exp() * (exact - found)).sum(dim=-1).mean()
    assert 1e-5 < divergence < 0.02
