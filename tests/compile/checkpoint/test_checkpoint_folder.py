"""Folders of safetensors as transformers writes them, read tensor by tensor and compared with the model itself.

Covers: single files, shards, experts one by one and fused, damage
Reference: files that `transformers` writes; random damage
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_compile.checkpoint import expected_tensors, open_checkpoint
from qwen3_compile.errors import CheckpointError


def opened(folder, **options):
    return open_checkpoint(str(folder), base_dir=folder, **options)


def failure(folder, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_holds(checkpoint, state: dict[str, torch.Tensor]):
    """The checkpoint's tensors are exactly those of `state`, bit for bit."""
    assert checkpoint.tensors().keys() == state.keys()
    for name, reference in state.items():
        info, array = checkpoint.tensors()[name], checkpoint.read(name)
        assert info.shape == array.shape == tuple(reference.shape)
        assert info.dtype == array.dtype.name == str(reference.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(array.astype(np.float32), reference.float().numpy())


def per_expert(model) -> dict[str, torch.Tensor]:
    """A mixture's weights split by transformers' own definition of the fused tensors (gate rows, then up rows)."""
    state = {}
    for name, tensor in model.state_dict().items():
        if ".experts." not in name:
            state[name] = tensor
            continue
        stem, kind = name.rsplit(".", 1)
        for expert, matrix in enumerate(tensor):
            if kind == "gate_up_proj":
                gate, up = matrix.chunk(2)
                state |= {f"{stem}.{expert}.gate_proj.weight": gate, f"{stem}.{expert}.up_proj.weight": up}
            else:
                state[f"{stem}.{expert}.down_proj.weight"] = matrix
    return state


@pytest.fixture
def copy_of(tmp_path):
    """A copy of a folder that a test may damage."""

    def copy(folder):
        return shutil.copytree(folder, tmp_path / "copy")

    return copy


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_dense_model_is_read_bit_for_bit(make_model, tmp_path, dtype):
    model = make_model(dtype=dtype)
    model.save_pretrained(tmp_path)
    assert_holds(opened(tmp_path), model.state_dict())


def test_a_sharded_model_is_read_bit_for_bit(sharded_folder, make_model):
    assert len(list(sharded_folder.glob("*.safetensors"))) > 1
    assert_holds(opened(sharded_folder), make_model().state_dict())
    names = {file.name for file in opened(sharded_folder).files()}
    assert names == {path.name for path in sharded_folder.iterdir()} - {"generation_config.json"}


@pytest.mark.parametrize("original_format", [True, False], ids=["per-expert", "fused"])
@pytest.mark.parametrize("shard", ["50GB", "30KB"], ids=["single", "sharded"])
def test_experts_have_one_naming_however_they_are_stored(make_model, tmp_path, original_format, shard):
    model = make_model("moe")
    model.save_pretrained(tmp_path, save_original_format=original_format, max_shard_size=shard)
    assert_holds(opened(tmp_path), per_expert(model))


def test_the_architecture_is_that_of_the_config(
    make_model, tmp_path, dense_folder, dense_architecture, moe_architecture
):
    assert opened(dense_folder).architecture == dense_architecture
    make_model("moe", tied=True).save_pretrained(tmp_path)
    mixture = replace(moe_architecture, tie_word_embeddings=True)
    assert opened(tmp_path, expected=mixture).architecture == mixture


def test_a_tied_head_has_no_tensor(make_model, tmp_path):
    model = make_model(tied=True)
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    del state["lm_head.weight"]
    assert_holds(opened(tmp_path), state)


def test_a_stored_tied_head_is_accepted_only_as_the_embedding_itself(make_model, tmp_path):
    make_model(tied=True).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_file(state, weights)
    assert "lm_head.weight" not in opened(tmp_path).tensors()

    state["lm_head.weight"][-1, -1] += 1
    save_file(state, weights)
    message = failure(tmp_path)
    assert "lm_head.weight differs from model.embed_tokens.weight" in message
    assert str(weights) in message


def test_an_embedding_release_without_prefix_or_head(make_model, tmp_path):
    model = make_model(tied=True)
    model.model.save_pretrained(tmp_path)
    assert_holds(opened(tmp_path), {f"model.{name}": tensor for name, tensor in model.model.state_dict().items()})


def test_rotary_buffers_of_older_writers_are_ignored(dense_folder, copy_of):
    folder = copy_of(dense_folder)
    state = load_file(folder / "model.safetensors")
    extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(3)}
    save_file(state | extra, folder / "model.safetensors")
    assert_holds(opened(folder), state)


def test_expected_tensors_are_those_that_transformers_makes(make_model, dense_architecture, moe_architecture):
    for kind, architecture in (("dense", dense_architecture), ("moe", moe_architecture)):
        state = per_expert(make_model(kind))
        shapes = expected_tensors(architecture, has_head=True)
        assert shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}


def edit_weights(folder, edit):
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")


def test_missing_extra_and_misshapen_tensors_are_counted_and_named(dense_folder, copy_of):
    folder = copy_of(dense_folder)

    def edit(state):
        for layer in range(3):
            del state[f"model.layers.{layer}.mlp.gate_proj.weight"]
        del state["model.norm.weight"]
        state["model.layers.7.mlp.up_proj.weight"] = torch.zeros(2, 2)
        state["model.layers.0.self_attn.q_norm.weight"] = torch.zeros(8)
        state["lm_head.weight"] = state["lm_head.weight"].to(torch.int32)

    edit_weights(folder, edit)
    message = failure(folder)
    assert "model.safetensors" in message
    assert "4 missing" in message
    assert "model.layers.0.mlp.gate_proj.weight" in message
    assert "and 1 more" in message
    assert "1 not of this architecture: model.layers.7.mlp.up_proj.weight" in message
    assert "model.layers.0.self_attn.q_norm.weight [8] instead of [16]" in message
    assert "lm_head.weight I32" in message


def test_an_untied_model_without_a_head_is_refused(dense_folder, copy_of):
    folder = copy_of(dense_folder)
    edit_weights(folder, lambda state: state.pop("lm_head.weight"))
    assert "1 missing: lm_head.weight" in failure(folder)


def test_a_tensor_stored_both_fused_and_by_expert_is_refused(make_model, tmp_path):
    make_model("moe").save_pretrained(tmp_path, save_original_format=False)
    edit_weights(
        tmp_path, lambda state: state.update({"model.layers.0.mlp.experts.0.up_proj.weight": torch.zeros(24, 40)})
    )
    assert "model.layers.0.mlp.experts.0.up_proj.weight twice" in failure(tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 200, 100_000_000])
def test_a_truncated_file_is_named(dense_folder, copy_of, cut):
    weights = copy_of(dense_folder) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: min(cut, len(content) - 1)])
    assert str(weights) in failure(weights.parent)


def test_a_file_overwritten_after_opening_is_an_error_not_a_crash(dense_folder, copy_of):
    folder = copy_of(dense_folder)
    checkpoint = opened(folder)
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="when it was opened"):
        checkpoint.read("model.norm.weight")


def test_an_unknown_name_is_an_error(dense_folder):
    with pytest.raises(CheckpointError, match=r"no tensor is named 'model\.nrom\.weight'"):
        opened(dense_folder).read("model.nrom.weight")


def edit_index(folder, edit):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    edit(index["weight_map"])
    path.write_text(json.dumps(index))


def test_a_missing_shard_is_named(sharded_folder, copy_of):
    folder = copy_of(sharded_folder)
    shard = max(folder.glob("*.safetensors"))
    shard.unlink()
    assert str(shard) in failure(folder)


def test_a_tensor_in_another_shard_than_indexed_is_named(sharded_folder, copy_of):
    folder = copy_of(sharded_folder)
    shards = sorted(path.name for path in folder.glob("*.safetensors"))

    def move(weight_map):
        place = weight_map["model.norm.weight"]
        weight_map["model.norm.weight"] = next(shard for shard in shards if shard != place)

    edit_index(folder, move)
    message = failure(folder)
    assert "model.norm.weight" in message
    assert ".safetensors" in message


def test_an_indexed_tensor_that_no_shard_holds_is_named(sharded_folder, copy_of):
    folder = copy_of(sharded_folder)
    edit_index(folder, lambda weight_map: weight_map.update({"ghost": next(iter(weight_map.values()))}))
    assert "ghost" in failure(folder)


@pytest.mark.parametrize("path", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "C:\\x", 5])
def test_an_index_cannot_leave_its_folder(sharded_folder, copy_of, path):
    folder = copy_of(sharded_folder)
    edit_index(folder, lambda weight_map: weight_map.update({"model.norm.weight": path}))
    assert "not the name of a file beside the index" in failure(folder)


def test_pickled_weights_are_refused_with_the_way_out(dense_folder, copy_of):
    folder = copy_of(dense_folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "convert them to safetensors" in failure(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    message = failure(tmp_path / "absent")
    assert str(tmp_path / "absent") in message


def test_the_spec_and_the_checkpoint_must_describe_one_model(dense_folder, dense_architecture):
    message = failure(dense_folder, expected=replace(dense_architecture, num_hidden_layers=4, rope_theta=5e6))
    assert "num_hidden_layers: expected 4 (spec), found 3" in message
    assert "rope_theta: expected 5000000.0 (spec), found 1000000.0" in message
    assert str(dense_folder / "config.json") in message


def test_a_spec_may_add_yarn_to_a_checkpoint_without_it(dense_folder, dense_architecture):
    from qwen3_graphs.architecture import YarnScaling

    expected = replace(dense_architecture, yarn=YarnScaling(4.0, 256))
    assert opened(dense_folder, expected=expected).architecture.yarn is None


def test_a_relative_source_counts_from_the_spec_and_is_reported_as_written(dense_folder):
    checkpoint = open_checkpoint(dense_folder.name, base_dir=dense_folder.parent)
    assert checkpoint.uri == dense_folder.name
    assert checkpoint.revision is None


def test_a_tokenizer_folder_replaces_only_the_tokenizer(dense_folder, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text("{}")
    assets = opened(dense_folder, tokenizer=str(tmp_path)).assets()
    assert assets == {
        "generation_config.json": dense_folder / "generation_config.json",
        "tokenizer.json": tmp_path / "tokenizer.json",
    }


def test_a_tokenizer_folder_without_one_is_refused(dense_folder, tmp_path):
    assert "holds no tokenizer.json" in failure(dense_folder, tokenizer=str(tmp_path))


@pytest.mark.parametrize("source", ["s3://bucket/model", "hf://", "hf://Qwen", "synthetic://", "synthetic://-1", ""])
def test_a_source_of_no_known_kind_is_refused(tmp_path, source):
    with pytest.raises(CheckpointError, match="expected"):
        open_checkpoint(source, base_dir=tmp_path)


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = "import sys, qwen3_compile.checkpoint; print({'torch', 'transformers', 'onnx'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_dimensions_cannot_hide_a_swapped_axis(moe_architecture):
    """Every dimension of the fixtures differs from the others, so that no test passes by coincidence."""
    a = moe_architecture
    queries, keys = a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim
    sizes = [queries, keys, a.vocab_size, a.hidden_size, a.intermediate_size, a.head_dim]
    sizes += [a.moe_intermediate_size, 2 * a.moe_intermediate_size]
    assert len(set(sizes)) == len(sizes)
