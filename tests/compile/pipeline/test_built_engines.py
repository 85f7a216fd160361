"""Whole builds of tiny checkpoints, judged by transformers and by the runtime.

Reference: `transformers`; the runtime
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from target_sections import SECTIONS
from transformers import Qwen3ForCausalLM

from qwen3_compile.errors import AccuracyError, CheckpointError, UnsupportedError
from qwen3_compile.validate import continuations
from qwen3_graphs.errors import LoweringError
from qwen3_plugins.ort import library_path
from qwen3_runtime.directory import read_engine_directory
from qwen3_runtime.text import Tokenizer

# What each format may cost on these random models: the median over positions (a near tie in a router may flip an
# expert at one of them) of the error's norm, relative to that of the logits.
TOLERANCE = {
    "ort": {"fp32": 1e-5, "int8": 0.08, "int4": 0.6},
    "ort-plugins": {"fp32": 1e-3, "int8": 0.08, "int4": 0.6},  # keys and values in float16
}


def engine_logits(folder, ids):
    """Prefill one sequence through the packed interface of docs/architecture.md, with nothing but onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    count = len(ids)
    if "block_table" in {value.name for value in session.get_inputs()}:
        feeds = {
            "input_ids": np.array(ids, np.int64),
            "query_start": np.array([0, count], np.int32),
            "context_len": np.array([0], np.int32),
            "block_table": np.array([[2, 0, 1]], np.int32),
            "logits_rows": np.arange(count, dtype=np.int32),
            "live_vocab": np.array(session.get_outputs()[0].shape[1], np.int32),
            "top_k": np.array(0, np.int32),
        }
        for value in session.get_inputs():
            if value.name.startswith("kv."):
                feeds[value.name] = np.zeros((3, 2, value.shape[2], 8, value.shape[4]), np.float16)
        return session.run(["logits"], feeds)[0]
    feeds = {
        "input_ids": np.array(ids, np.int64),
        "query_len": np.array([count], np.int32),
        "context_len": np.array([0], np.int32),
        "logits_rows": np.arange(count, dtype=np.int64),
    }
    for value in session.get_inputs():
        if value.name.startswith("kv."):
            feeds[value.name] = np.zeros((1, value.shape[1], 32, value.shape[3]), np.float32)
    return session.run(["logits"], feeds)[0]


def reference_logits(folder, ids):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("target", ["ort-plugins", "ort"])
@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("weights", ["fp32", "int8", "int4"])
def test_an_engine_computes_what_transformers_does(make, checkpoints, kind, weights, target):
    info, _ = make(kind, precision={"weights": weights}, target=SECTIONS[target], options={"validate": False})
    ids = np.random.default_rng(0).integers(0, 261, 20).tolist()
    expected = reference_logits(checkpoints / kind, ids)
    error = np.linalg.norm(engine_logits(info.path, ids) - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.median(error) < TOLERANCE[target][weights]


@pytest.mark.parametrize(
    ("target", "kind", "logit_error"),
    # Keys and values in float16 are enough to turn a close call of a random router.
    [("ort", "dense", 2e-3), ("ort", "moe", 2e-3), ("ort-plugins", "dense", 2e-2)],
)
def test_a_built_engine_is_verified_and_opens(make, target, kind, logit_error):
    accuracy = {"max_kl": 1e-5, "max_logit_error": logit_error}
    info, record = make(kind, precision={"weights": "fp32"}, target=SECTIONS[target], accuracy=accuracy)
    manifest = read_engine_directory(info.path, verify="full")
    assert manifest.verified
    assert manifest.io.tokenizer_vocab_size == 261
    assert manifest.eos_token_ids == (258, 256)
    assert manifest.pad_token_id == 256
    assert manifest.chat.thinking_budget == 8
    assert {"accuracy.json", "report.html", "tokenizer.json", "tokenizer_config.json"} <= set(manifest.files)
    assert info.accuracy.summary.mean_kl <= 1e-5
    assert list(record.outcomes) == ["checkpoint", "trace", "lower", "pack", "validate"]


@pytest.mark.parametrize("bound", [None, 0], ids=["whole", "bounded"])
def test_the_report_holds_both_continuations_of_a_prompt(bound, make, checkpoints, monkeypatch):
    """PyTorch's goes on after the first difference with its own tokens, as `transformers` generates them."""
    if bound is not None:
        monkeypatch.setattr(continuations, "REFERENCE_BYTES", bound)
    info, _ = make("dense", precision={"weights": "int4", "lm_head": "int4"}, accuracy={"prompts": ["one", "two", "3"]})
    entries = json.loads((info.path / "accuracy.json").read_text(encoding="utf-8"))["greedy"]
    model = Qwen3ForCausalLM.from_pretrained(checkpoints / "dense", dtype=torch.float32)
    tokenizer = Tokenizer.open(info.path)
    options = {"max_new_tokens": 32, "do_sample": False, "pad_token_id": 256, "suppress_tokens": list(range(261, 272))}
    assert any(entry["agreed"] < entry["generated"] for entry in entries)
    for entry in entries:
        ids, same = torch.tensor([tokenizer.encode(entry["prompt"])]), entry["agreed"]
        said = model.generate(ids, **options)[0, ids.shape[1] :].tolist()
        assert entry["same"] == tokenizer.decode(said[:same])
        assert entry["reference"] == tokenizer.decode(said[same : entry["generated"] if bound is None else same + 1])


def test_greedy_agreement_is_measured_as_far_as_the_limit_asks(make):
    make("dense", out="first", precision={"weights": "fp32"})  # whose figures, kept in the cache, do not reach so far
    info, _ = make("dense", precision={"weights": "fp32"}, accuracy={"min_greedy_tokens": 40})
    continued = json.loads((info.path / "accuracy.json").read_text(encoding="utf-8"))["greedy"]
    assert [entry["generated"] for entry in continued] == [40] * len(continued)
    assert continued


def test_an_engine_without_validation_says_so(make):
    info, _ = make(options={"validate": False})
    assert not read_engine_directory(info.path).verified
    assert info.accuracy is None
    assert not (info.path / "accuracy.json").exists()


def test_an_engine_that_misses_a_limit_is_not_published(make, tmp_path):
    with pytest.raises(AccuracyError, match="largest error"):
        make(precision={"weights": "int4", "group_size": 32}, accuracy={"max_logit_error": 1e-9})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "engine.failed"]


def test_a_weight_that_is_not_finite_is_named_and_nothing_is_left(make, checkpoints, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (checkpoints / "dense").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][5, 7] = torch.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN"):
        make(source=broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "cache"]


def test_a_precision_that_the_target_lacks_is_refused(make, monkeypatch):
    def refuse(*_):
        raise LoweringError("the target has no such operator: use fp32")

    monkeypatch.setattr("qwen3_graphs.lower.lower", refuse)
    with pytest.raises(UnsupportedError, match="use fp32"):
        make(options={"validate": False}, limits={"max_context": 255, "max_batch": 1})


def test_synthetic_weights_need_no_files(make):
    info, _ = make("moe", source="synthetic://5", options={"validate": False})
    manifest = read_engine_directory(info.path, verify="full")
    assert manifest.io.tokenizer_vocab_size == 272
    assert manifest.eos_token_ids == ()
    assert set(manifest.files) == {"model.onnx", "weights.bin"}


def test_a_tied_head_alone_gives_the_same_weights_and_is_told(make, checkpoints, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoints / "dense", tmp_path / "head")
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state.pop("model.embed_tokens.weight")
    save_file({f"_orig_mod.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    expected, _ = make("dense", out="plain", options={"validate": False})
    info, record = make(source=folder, options={"validate": False})
    for name in ("weights.bin", "model.onnx"):
        assert (info.path / name).read_bytes() == (expected.path / name).read_bytes()
    told = "; _orig_mod. removed from tensor names; the tied matrix is stored as lm_head.weight"
    assert record.outcomes["checkpoint"].endswith(told)


def test_the_manifest_tells_no_time_and_no_place(make, tmp_path):
    info, _ = make(source="synthetic://5", options={"validate": False})
    text = (info.path / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert not {"date", "time", "host", "user", "cwd"} & set(json.loads(text))
    assert str(tmp_path).encode() not in (info.path / "model.onnx").read_bytes()
