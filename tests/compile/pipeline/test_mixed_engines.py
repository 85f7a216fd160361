"""Engines of a mixture of experts with dense layers, for every target that builds here, judged by transformers.

Covers: ort with plugins, `ort`, `onnx`; planned by TensorRT-RTX, also with the experts' plugin
Reference: `transformers`' Qwen3MoeForCausalLM: logits, greedy tokens
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from target_sections import SECTIONS

from qwen3_compile.pipeline import build
from qwen3_compile.spec import parse_spec
from qwen3_runtime import Engine

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
LAYERS = {"num_hidden_layers": 4, "mlp_only_layers": [2], "decoder_sparse_step": 2}  # experts in layers 1 and 3
PROMPT = np.random.default_rng(0).integers(0, 256, 20).tolist()


@pytest.fixture(scope="module")
def mixed(checkpoints, tmp_path_factory):
    """A random model of transformers' own, its folder, and its greedy tokens after `PROMPT`."""
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    folder = tmp_path_factory.mktemp("mixed")
    values = json.loads((checkpoints / "moe" / "config.json").read_text()) | LAYERS
    torch.manual_seed(5)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**values))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0, 0.1) if "norm" in name else parameter.normal_(0.0, 0.15)
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((checkpoints / "moe" / name).read_bytes())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = model.generate(torch.tensor([PROMPT]), max_new_tokens=8, do_sample=False, eos_token_id=None)[0, 20:]
    return folder, tokens.tolist()


@pytest.fixture(scope="module")
def model_section(spec_of, mixed):
    section = json.loads(spec_of(mixed[0], "moe"))["model"]
    return section | {"architecture": section["architecture"] | EXPERTS | LAYERS}


@pytest.fixture(scope="module")
def traced(spec_of, mixed, model_section, tmp_path_factory):
    """A cache that holds the trace of the model."""
    root = tmp_path_factory.mktemp("traced")
    spec = parse_spec(spec_of(mixed[0], "moe", model=model_section))
    build(spec, root / "moe", cache_dir=root / "cache", validate=False)
    return root / "cache"


@pytest.mark.parametrize("target", ["ort-plugins", "ort", "onnx"])
def test_an_engine_computes_what_transformers_does(make, mixed, model_section, target):
    folder, expected = mixed
    sections = {"precision": {"weights": "fp32"}, "target": SECTIONS[target], "accuracy": {"max_kl": 1e-5}}
    info, _ = make("moe", source=folder, model=model_section, **sections)
    with Engine.open(info.path) as engine:
        found = engine.complete(PROMPT, max_tokens=8, temperature=0.0).tokens
    assert found
    assert list(found) == expected[: len(found)]


@pytest.mark.parametrize("target", [{}, {"plugins": ["moe"]}])
def test_tensorrt_plans_it(make, mixed, model_section, target):
    precision = {"weights": "int4", "group_size": 32, "lm_head": "fp16"}
    target = {"backend": "tensorrt-rtx", "compute_capabilities": ["8.9"]} | target
    accuracy = {"prompts": ["What is this?"], "text": "One text of a line."}  # little to compare on: others measure
    info, _ = make("moe", source=mixed[0], model=model_section, precision=precision, target=target, accuracy=accuracy)
    assert info.plan is not None
    assert info.accuracy is not None


@pytest.mark.parametrize(("weights", "most"), [("int8", 0.02), ("int4", 0.5)])
def test_quantized_layers_of_both_kinds(make, mixed, model_section, weights, most):
    precision = {"weights": weights, "group_size": 32}
    info, _ = make("moe", source=mixed[0], model=model_section, precision=precision)
    assert info.accuracy.summary.mean_kl < most
