"""The shipped specs against independent figures: transformers' own models, released sizes, released names.

Reference: `transformers`' models, released sizes and names
"""

import re
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from qwen3_compile.spec import HubSource, load_spec, parse_source, shipped_specs
from qwen3_compile.spec.size import count_parameters, parameter_counts, weight_bytes
from qwen3_graphs.formats import WeightFormat

SPECS = {name: path for name, path in shipped_specs().items() if not name.startswith("tiny-")}
NAMES = sorted(SPECS)

# Parameters of released checkpoints. Qwen's cards round them; KerasHub's presets print the exact counts.
EXACT = {
    "qwen3-0.6b": 596_049_920,
    "qwen3-embedding-0.6b": 595_776_512,
    "qwen3-embedding-4b": 4_021_774_336,
    "qwen3-embedding-8b": 8_188_515_328,
}
CARDS = {  # billions in all, billions active, as the model cards print them
    "0.6b": (0.6, 0.6),
    "1.7b": (1.7, 1.7),
    "4b": (4.0, 4.0),
    "8b": (8.2, 8.2),
    "14b": (14.8, 14.8),
    "32b": (32.8, 32.8),
    "30b-a3b": (30.5, 3.3),
    "235b-a22b": (235, 22),
    "480b-a35b": (480, 35),
}
MOE_KEYS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
RELEASED = {
    *(f"qwen3-{size}" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b", "30b-a3b", "235b-a22b")),
    *(f"qwen3-{size}-base" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "30b-a3b")),
    *(f"qwen3-{size}-{kind}-2507" for size in ("4b", "30b-a3b", "235b-a22b") for kind in ("instruct", "thinking")),
    *(f"qwen3-coder-{size}-instruct" for size in ("30b-a3b", "480b-a35b")),
    *(f"qwen3-{kind}-{size}" for kind in ("embedding", "reranker") for size in ("0.6b", "4b", "8b")),
}
# Every chat model is released in E4M3 too.
RELEASED |= {f"{name}-fp8" for name in RELEASED if not re.search("base|embedding|reranker", name)}


@pytest.fixture(scope="module", params=NAMES)
def shipped(request):
    return load_spec(SPECS[request.param])


def size_of(name):
    return re.search(r"\d+(\.\d+)?b(-a\d+b)?", name)[0]


def config_of(spec):
    values = spec.model.architecture.model_dump()
    moe = {key: values.pop(key) for key in MOE_KEYS}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": values.pop("rope_theta")}}
    return Qwen3MoeConfig(**values, **moe, **rope) if moe["num_experts"] else Qwen3Config(**values, **rope)


def meta_model(config):
    return Qwen3MoeForCausalLM(config) if isinstance(config, Qwen3MoeConfig) else Qwen3ForCausalLM(config)


def test_every_released_text_variant_has_a_spec():
    assert set(NAMES) == RELEASED


def test_files_engines_and_repositories_share_a_name(shipped):
    assert SPECS[shipped.name].stem == shipped.name
    source = parse_source(shipped.model.source)
    assert isinstance(source, HubSource)
    assert source.repo.lower() == f"qwen/{shipped.name}"


def test_parameters_equal_those_of_transformers_own_model(shipped):
    config = config_of(shipped)
    config.num_hidden_layers = 2
    with torch.device("meta"):
        two = sum(parameter.numel() for parameter in meta_model(config).parameters())
        config.num_hidden_layers = 3
        three = sum(parameter.numel() for parameter in meta_model(config).parameters())
    layers = shipped.model.architecture.num_hidden_layers
    assert parameter_counts(shipped.graph_architecture())[0] == two + (layers - 2) * (three - two)


def test_parameters_match_the_released_size(shipped):
    total, active = parameter_counts(shipped.graph_architecture())
    card_total, card_active = CARDS[size_of(shipped.name)]
    assert total / 1e9 == pytest.approx(card_total, rel=0.02)
    assert active / 1e9 == pytest.approx(card_active, rel=0.02)
    assert total == EXACT.get(shipped.name, total)


def test_transformers_attention_takes_the_heads_as_they_are(shipped):
    config, architecture = config_of(shipped), shipped.model.architecture
    config.num_hidden_layers = 1
    with torch.device("meta"):
        attention = meta_model(config).model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (
        architecture.num_attention_heads * architecture.head_dim,
        architecture.hidden_size,
    )
    assert attention.k_proj.weight.shape == (
        architecture.num_key_value_heads * architecture.head_dim,
        architecture.hidden_size,
    )
    assert attention.q_norm.weight.shape == (architecture.head_dim,)
    assert attention.q_proj.bias is None
    assert attention.q_norm.variance_epsilon == architecture.rms_norm_eps == Qwen3Config().rms_norm_eps


def test_the_rotary_base_is_the_released_one(shipped):
    """A secondary source's favorite mistakes: 10,000, and one base for every 2507."""
    name = shipped.name
    if "coder" in name or ("30b-a3b" in name and "2507" in name):
        expected = 10_000_000
    else:
        expected = 5_000_000 if "2507" in name else 1_000_000
    assert shipped.model.architecture.rope_theta == expected
    assert shipped.rope_scaling is None


def test_contexts_thinking_and_sampling_follow_the_variant(shipped):
    name, architecture, chat = shipped.name, shipped.model.architecture, shipped.chat
    if "2507" in name or "coder" in name:
        assert architecture.max_position_embeddings == 262_144
    elif name.endswith("-base") or name == "qwen3-embedding-0.6b":
        assert architecture.max_position_embeddings == 32_768
    else:
        assert architecture.max_position_embeddings == 40_960
    if name.endswith("-base"):
        assert (shipped.model.task, chat.thinking) == ("completion", "never")
    elif "embedding" in name or "reranker" in name:
        assert chat is None
        assert shipped.model.task in name
    else:
        expected = "always" if "thinking" in name else "never" if "instruct" in name else "hybrid"
        assert chat.thinking == expected
    if chat and chat.sampling.thinking:
        drawn = chat.sampling.thinking
        assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.min_p) == (0.6, 0.95, 20, 0.0)
        assert chat.thinking_budget == 8192
    if chat and chat.sampling.non_thinking and not name.endswith("-base"):
        drawn = chat.sampling.non_thinking
        assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.min_p) == (0.7, 0.8, 20, 0.0)
        assert drawn.repetition_penalty == (1.05 if "coder" in name else 1.0)


def test_every_figure_of_the_architecture_names_its_source(shipped):
    text = SPECS[shipped.name].read_text(encoding="utf-8")
    sources = set(re.findall(r"^#   \[(\w+)\]", text, re.MULTILINE))
    block = text[text.index("architecture:\n") : text.index("precision:\n")]
    figures = block.splitlines()[1:]
    assert len(figures) >= 11
    for line in figures:
        (cited,) = re.findall(r"  # \[(\w+)\]", line)
        assert cited in sources
    assert ("not verified" in block) <= ('# Figures marked "not verified"' in text)
    assert text.startswith("# yaml-language-server: $schema=../docs/spec.schema.json\n")


def test_releases_in_e4m3_are_compiled_as_they_are(shipped):
    precision = shipped.graph_precision()
    as_released = (WeightFormat("fp8", 128), WeightFormat("bf16"), WeightFormat("bf16"))
    assert ((precision.weights, precision.lm_head, precision.embedding) == as_released) == shipped.name.endswith("-fp8")
    if shipped.name.endswith("-fp8"):
        plain = load_spec(SPECS[shipped.name.removesuffix("-fp8")])
        assert shipped.model.architecture == plain.model.architecture
        assert (shipped.limits, shipped.chat) == (plain.limits, plain.chat)


def test_a_weight_count_by_format_adds_up():
    spec = load_spec(SPECS["qwen3-0.6b"])
    count = count_parameters(spec.graph_architecture())
    # 4-bit codes and 8-bit codes, each with a float32 scale for 32 of them, and float32 norms.
    expected = count.matrices * (4 + 1) / 8 + count.embedding * (8 + 1) / 8 + count.small * 4
    assert weight_bytes(spec.graph_architecture(), spec.graph_precision()) == round(expected)


def test_shipped_specs_are_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert all(Path(path).is_file() for path in shipped_specs().values())
