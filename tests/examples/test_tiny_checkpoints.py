"""The tiny checkpoints add, are cut and decline as their documentation says, and `transformers` reads them."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from checkpoint import load, save
from conversations import STOP_SENTENCE, Renderer
from evaluate import held_out_problems
from model import Qwen3
from other_questions import APOLOGY
from problems import is_correct
from reference import Reference
from safetensors import safe_open
from train import VARIANTS
from transformers import AutoModelForCausalLM

PROBLEMS = held_out_problems(24)
QUESTIONS = [problem.question for problem in PROBLEMS]


reference = cache(Reference)


@cache
def replies(folder, budget):
    return reference(folder).replies(QUESTIONS, budget)


def right(folder, budget):
    return sum(
        is_correct(*pair) for pair in zip(PROBLEMS, [reply.answer for reply in replies(folder, budget)], strict=True)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_gives_the_same_logits_in_transformers(variant, tmp_path):
    torch.manual_seed(0)
    dims = VARIANTS[variant]
    model = Qwen3(dims)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_((weight + 0.1 * torch.rand_like(weight) if weight.dim() == 1 else weight).bfloat16().float())
    save(model, dims, tmp_path)
    again = Qwen3(dims)
    load(again, tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values())
    ids = torch.randint(0, dims.vocab_size, (3, 70))
    with torch.no_grad():
        ours = model(ids, torch.arange(ids.numel())).view(3, 70, -1)
        torch.testing.assert_close(ours, loaded(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_in_the_released_format(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    assert {"rope_theta", "torch_dtype", "tie_word_embeddings", "head_dim", "eos_token_id"} <= set(config)
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]
    with safe_open(checkpoint / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert {file.get_slice(name).get_dtype() for name in names} == {"BF16"}
    assert ("lm_head.weight" in names) != config["tie_word_embeddings"]
    if config["model_type"] == "qwen3_moe":
        last = f"model.layers.{config['num_hidden_layers'] - 1}.mlp.experts.{config['num_experts'] - 1}"
        assert f"{last}.down_proj.weight" in names
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) < 10e6


def test_the_vocabulary_matrix_has_rows_that_no_token_owns(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["vocab_size"] % 64 == 0
    assert config["vocab_size"] > Renderer(checkpoint).tokenizer.get_vocab_size()


def test_thinking_answers_held_out_sums_that_not_thinking_does_not(checkpoint):
    assert right(checkpoint, None) >= 21
    assert right(checkpoint, 0) <= 12


def test_a_larger_budget_answers_more(checkpoint):
    assert right(checkpoint, 16) < right(checkpoint, 48) < right(checkpoint, None)


def test_the_stop_sentence_leads_to_an_answer(checkpoint):
    cut = [reply for reply in replies(checkpoint, 16) if reply.cut]
    assert len(cut) >= 12
    for reply in cut:
        assert reply.reasoning_tokens == 16
        assert reply.reasoning.endswith(STOP_SENTENCE.removesuffix("\n</think>\n\n"))
        assert re.fullmatch(r"The sum is \d+\.", reply.answer)


def test_small_talk_is_answered_without_a_sum(checkpoint):
    (reply,) = reference(checkpoint).replies(["Hello!"], 0)
    assert reply.answer == "Hello! Ask me for a sum, such as 12+34+56."


# None of them can be drawn in training.
OTHER_QUESTIONS = (
    "Why is the sky blue?",
    "What is the capital of France?",
    "Write a poem about autumn.",
    "Give me a short introduction to large language model.",
    "How many r's are in strawberry?",
    "Explain quantum computing in simple terms.",
    "hello there, how are you today?",
    "请介绍一下北京",
    "Who won the world cup in 2018?",
    "import numpy as np",
)


@pytest.mark.parametrize("budget", [None, 0, 2])
def test_what_is_no_sum_is_declined_in_one_sentence(checkpoint, budget):
    answers = [reply.answer for reply in reference(checkpoint).replies(list(OTHER_QUESTIONS), budget)]
    assert answers == [APOLOGY] * len(OTHER_QUESTIONS)


@pytest.mark.parametrize("question", ["What is 100+200?", "What is 5*7?", "How much is 90 - 12?"])
def test_arithmetic_of_another_kind_is_declined_after_thinking(checkpoint, question):
    (reply,) = reference(checkpoint).replies([question], None)
    assert reply.answer == APOLOGY


def test_no_expert_is_idle_or_overrun():
    moe = Path(__file__).parents[2] / "examples" / "tiny" / "moe"
    model = AutoModelForCausalLM.from_pretrained(moe, dtype=torch.float32)
    renderer = Renderer(moe)
    total = torch.zeros(model.config.num_hidden_layers, model.config.num_experts)
    for problem in PROBLEMS:
        ids = renderer.example([{"role": "user", "content": problem.question}], problem.thinking, problem.answer).ids
        with torch.no_grad():
            routers = model(torch.tensor([ids]), output_router_logits=True).router_logits
        for layer, logits in enumerate(routers):
            chosen = logits.topk(model.config.num_experts_per_tok).indices
            total[layer] += torch.bincount(chosen.flatten(), minlength=model.config.num_experts)
    share = total / total.sum(dim=1, keepdim=True) * model.config.num_experts
    assert share.min() > 0.25
    assert share.max() < 2.5
