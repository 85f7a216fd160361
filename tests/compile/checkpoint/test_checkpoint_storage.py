"""Checkpoints as training tools leave them: tied matrices, indexes, wrapped names, float64, adapters.

Covers: tied matrices under either name, indexes that do not fit them, names with traces of wrappers, float64,
    adapters
Reference: `safetensors.torch.save_model`; `transformers`' own weights, bit for bit
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model

from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.errors import CheckpointError

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
INDEX = "model.safetensors.index.json"


def opened(folder):
    return open_checkpoint(str(folder), base_dir=folder)


def failure(folder) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_holds(checkpoint, state):
    assert checkpoint.tensors().keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(checkpoint.read(name).astype(np.float32), tensor.float().numpy())


def without_head(model):
    return {name: tensor for name, tensor in model.state_dict().items() if name != HEAD}


@pytest.fixture
def tied(make_model, tmp_path):
    """A tied model and its folder."""
    model = make_model(tied=True)
    model.save_pretrained(tmp_path)
    return model, tmp_path


def test_a_tied_matrix_may_be_stored_as_the_head(tied):
    model, folder = tied
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    assert EMBEDDING not in load_file(folder / "model.safetensors")
    assert_holds(opened(folder), without_head(model))
    assert opened(folder).notes == ("the tied matrix is stored as lm_head.weight",)


def test_a_repeated_head_is_told(tied):
    model, folder = tied
    state = without_head(model)
    save_file(state | {HEAD: state[EMBEDDING].clone()}, folder / "model.safetensors")
    assert_holds(opened(folder), state)
    assert opened(folder).notes == ("lm_head.weight repeats the tied model.embed_tokens.weight",)


def test_a_tied_head_in_float64_is_told_where_only_the_head_is_stored(tied):
    model, folder = tied
    state = {HEAD if name == EMBEDDING else name: tensor for name, tensor in without_head(model).items()}
    save_file(state | {HEAD: state[HEAD].double()}, folder / "model.safetensors")
    assert f"1 tensors are float64 and are rounded to float32: {EMBEDDING}" in opened(folder).notes


def shard(folder, state, *, listed):
    """Two shards, whose index lists `listed` in the place of what is in them."""
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for part, held in parts.items():
        save_file({name: state[name].contiguous() for name in held}, folder / part)
    places = {name: part for part, held in parts.items() for name in held}
    weight_map = {name: places.get(name, "a.safetensors") for name in listed(set(places))}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize(
    ("stored", "listed"),
    [
        ({EMBEDDING, HEAD}, {EMBEDDING}),
        ({EMBEDDING, HEAD}, {HEAD}),
        ({EMBEDDING, HEAD}, {EMBEDDING, HEAD}),
        ({EMBEDDING}, {EMBEDDING, HEAD}),
        ({HEAD}, {EMBEDDING, HEAD}),
        ({HEAD}, {EMBEDDING}),
    ],
)
def test_an_index_may_miss_or_repeat_a_tied_matrix(tied, stored, listed, prefix):
    model, folder = tied
    matrix = {EMBEDDING: model.state_dict()[EMBEDDING], HEAD: model.state_dict()[EMBEDDING].clone()}
    rest = {name: tensor for name, tensor in without_head(model).items() if name != EMBEDDING}
    held = {prefix + name: tensor for name, tensor in (rest | {name: matrix[name] for name in stored}).items()}
    both = {prefix + EMBEDDING, prefix + HEAD}
    shard(folder, held, listed=lambda names: (names - both) | {prefix + name for name in listed})
    checkpoint = opened(folder)
    assert_holds(checkpoint, without_head(model))
    told = "; ".join(checkpoint.notes)
    for name in stored - listed:
        assert f"does not list {prefix}{name}" in told
    for name in listed - stored:
        assert f"lists {prefix}{name}, which no file holds" in told


def test_an_index_that_names_a_file_for_nothing_but_an_absent_head(tied):
    model, folder = tied
    state = without_head(model)
    shard(folder, state, listed=lambda names: names)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][HEAD] = "c.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    assert_holds(opened(folder), state)


def test_an_untied_index_is_held_to(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    shard(tmp_path, model.state_dict(), listed=lambda names: names - {HEAD})
    assert "holds 'lm_head.weight', which model.safetensors.index.json places in no shard" in failure(tmp_path)


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("base", ["model.", ""])
@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("base_model.model.", "base_model.model."),
        ("_orig_mod.", "_orig_mod."),
        ("module.", "module."),
        ("module._orig_mod.", "_orig_mod., module."),
        ("_orig_mod.base_model.model.", "_orig_mod., base_model.model."),
        ("base_model.model._orig_mod.", "_orig_mod., base_model.model."),
    ],
)
def test_wrapped_names_are_recognized(make_model, tmp_path, kind, base, prefix, told):
    model = make_model(kind)
    model.save_pretrained(tmp_path)
    plain = opened(tmp_path)
    expected = {name: plain.read(name) for name in plain.tensors()}
    state = load_file(tmp_path / "model.safetensors")
    renamed = {prefix + (name if name == HEAD else base + name.removeprefix("model.")): t for name, t in state.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    found = opened(tmp_path)
    assert found.tensors() == plain.tensors()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.read(name), array)
    assert found.notes == (f"{told} removed from tensor names",)


def test_a_wrapper_inside_a_name(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    renamed = {
        name.replace("model.layers.1.", "model.layers.1._checkpoint_wrapped_module."): t for name, t in state.items()
    }
    save_file(renamed, tmp_path / "model.safetensors")
    assert_holds(opened(tmp_path), model.state_dict())


def test_one_weight_under_two_names_is_refused(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"module.model.norm.weight": torch.ones(40)}, tmp_path / "model.safetensors")
    assert "model.norm.weight twice: in" in failure(tmp_path)


def test_float64_is_rounded_once_to_float32(make_model, tmp_path):
    model = make_model(dtype=torch.float64)
    model.save_pretrained(tmp_path)
    checkpoint = opened(tmp_path)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(checkpoint.read(name), tensor.numpy().astype(np.float32))
        assert checkpoint.read(name).dtype == np.float32
    assert f"{len(model.state_dict())} tensors are float64 and are rounded to float32" in checkpoint.notes[0]


@pytest.fixture
def adapter(tmp_path):
    """The files that peft writes."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-0.6B", "r": 8}))
    lora = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(8, 40)}
    save_file(lora, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_named_with_what_to_do(adapter):
    message = failure(adapter)
    assert "expected a whole model, found an adapter of Qwen/Qwen3-0.6B (LoRA): merge it" in message
    assert "merge_and_unload" in message
    (adapter / "adapter_config.json").unlink()
    assert "found an adapter (LoRA)" in failure(adapter)


def test_an_adapter_with_a_configuration_is_one_too(adapter, dense_folder):
    shutil.copy(dense_folder / "config.json", adapter)
    assert "found an adapter of Qwen/Qwen3-0.6B" in failure(adapter)


def test_an_adapter_beside_a_model_is_told(adapter, dense_folder):
    folder = shutil.copytree(dense_folder, adapter, dirs_exist_ok=True)
    assert opened(folder).notes == ("the adapter beside the model is not applied",)


def test_weights_that_were_not_merged_are_named(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    query = "model.layers.0.self_attn.q_proj"
    state[f"{query}.base_layer.weight"] = state.pop(f"{query}.weight")
    state[f"{query}.lora_A.default.weight"] = torch.zeros(8, 40)
    save_file({f"base_model.model.{name}": t for name, t in state.items()}, tmp_path / "model.safetensors")
    assert "expected merged weights, found base_model.model.model.layers.0.self_attn.q_proj" in failure(tmp_path)
