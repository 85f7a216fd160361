"""`weights.bin` against the tensors that went into it.

Reference: the tensors that went in
"""

from __future__ import annotations

import os
import threading
import weakref
from itertools import pairwise

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from qwen3_compile.errors import CheckpointError
from qwen3_compile.pack import stream
from qwen3_compile.pack.stream import ALIGNMENT, attach, place, slot_bytes, write_weights
from qwen3_compile.quantize import Float8, as_float8
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lowered import TensorSlot, WeightRecipe
from qwen3_graphs.serialize import serialize

FP32, FP16, BF16 = WeightFormat("fp32"), WeightFormat("fp16"), WeightFormat("bf16")
INT4 = WeightFormat("int4", 32)
EXPERTS = 6


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    named = {"norm": rng.standard_normal(24), "matrix": rng.standard_normal((10, 64))}
    named |= {f"expert.{i}": rng.standard_normal((4, 8)) for i in range(EXPERTS)}
    return {name: value.astype(ml_dtypes.bfloat16) for name, value in named.items()}


def rows(name, shape, *, sources=None, fmt=FP32, dtype="FLOAT"):
    return WeightRecipe("rows", fmt, sources or ((name,),), (TensorSlot(name, dtype, shape),))


RECIPES = (
    rows("norm", (24,)),
    rows("matrix", (10, 64), fmt=BF16, dtype="BFLOAT16"),
    rows("experts", (EXPERTS, 4, 8), sources=tuple((f"expert.{i}",) for i in range(EXPERTS))),
    WeightRecipe(
        "nbit_rows",
        INT4,
        (("matrix",),),
        (TensorSlot("matrix.codes", "UINT8", (10, 2, 16)), TensorSlot("matrix.scales", "FLOAT", (10, 2))),
    ),
    rows("half", (24,), sources=(("norm",),), fmt=FP16, dtype="FLOAT16"),
)


def graph_of(recipes):
    slots = [slot for recipe in recipes for slot in recipe.outputs]
    values = [
        ir.Value(name=slot.name, type=ir.TensorType(ir.DataType[slot.dtype]), shape=ir.Shape(slot.shape))
        for slot in slots
    ]
    graph = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 23}, name="weights")
    return ir.Model(graph, ir_version=11), slots


def written(tmp_path, recipes=RECIPES, source=None, **options):
    path = tmp_path / "weights.bin"
    placement = place(recipes)
    write_weights(placement, (source or tensors()).__getitem__, path, **options)
    model, slots = graph_of(recipes)
    attach(model, placement, slots, path.name)
    (tmp_path / "model.onnx").write_bytes(serialize(model))
    return {name: value.const_value for name, value in ir.load(tmp_path / "model.onnx").graph.initializers.items()}


def test_every_initializer_reads_back_as_its_source(tmp_path):
    found = written(tmp_path)
    source = tensors()
    assert np.array_equal(found["norm"].numpy(), source["norm"].astype(np.float32))
    assert np.array_equal(found["matrix"].numpy().view(np.uint16), source["matrix"].view(np.uint16))
    assert np.array_equal(found["half"].numpy(), source["norm"].astype(np.float16))
    stacked = np.stack([source[f"expert.{i}"].astype(np.float32) for i in range(EXPERTS)])
    assert np.array_equal(found["experts"].numpy(), stacked)


def test_four_bit_codes_stand_for_the_source_within_half_a_step(tmp_path):
    found = written(tmp_path)
    packed, scales = found["matrix.codes"].numpy(), found["matrix.scales"].numpy()
    codes = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int64).reshape(10, 2, 32) - 8
    error = np.abs((codes * scales[:, :, None]).reshape(10, 64) - tensors()["matrix"].astype(np.float32))
    inside = (codes > -8) & (codes < 7)
    assert (error.reshape(codes.shape) <= 0.5001 * np.abs(scales[:, :, None]))[inside].all()


def test_regions_begin_at_pages_and_do_not_overlap(tmp_path):
    written(tmp_path)
    regions = sorted(place(RECIPES).regions.values(), key=lambda region: region.offset)
    assert all(region.offset % ALIGNMENT == 0 for region in regions)
    assert all(a.offset + a.length <= b.offset for a, b in pairwise(regions))
    assert (tmp_path / "weights.bin").stat().st_size == place(RECIPES).size


def test_equal_recipes_share_their_bytes(tmp_path):
    tied = rows("head", (10, 64), sources=(("matrix",),), fmt=BF16, dtype="BFLOAT16")
    placement = place((*RECIPES, tied))
    assert placement.regions["head"] == placement.regions["matrix"]
    assert placement.size == place(RECIPES).size
    found = written(tmp_path, (*RECIPES, tied))
    assert np.array_equal(found["head"].numpy().view(np.uint16), tensors()["matrix"].view(np.uint16))


def test_recipes_of_different_formats_share_nothing():
    """Bytes of the same type and shape stand for other values in another format."""
    slots = (TensorSlot("a", "UINT8", (10, 2, 16)), TensorSlot("b", "FLOAT", (10, 2)))
    renamed = tuple(TensorSlot(f"other.{slot.name}", slot.dtype, slot.shape) for slot in slots)
    first = WeightRecipe("nbit_rows", INT4, (("matrix",),), slots)
    second = WeightRecipe("nbit_rows", WeightFormat("uint4", 32), (("matrix",),), renamed)
    placement = place((first, second))
    assert placement.recipes == (first, second)
    assert len({region.offset for region in placement.regions.values()}) == 4


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_nothing(tmp_path, threads):
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    written(tmp_path / "one")
    written(tmp_path / "many", threads=threads)
    for name in ("weights.bin", "model.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_only_the_entries_being_packed_are_in_memory(tmp_path, threads):
    count = 40
    alive, most, lock = weakref.WeakSet(), [0], threading.Lock()

    class Tracked(np.ndarray):
        __hash__ = object.__hash__

    def read(_):
        array = np.full((64, 64), 1.0, np.float32).view(Tracked)
        with lock:
            alive.add(array)
            most[0] = max(most[0], len(alive))
        return array

    recipe = rows("experts", (count, 64, 64), sources=tuple((str(i),) for i in range(count)))
    write_weights(place([recipe]), read, tmp_path / "weights.bin", threads=threads)
    assert 1 <= most[0] <= threads + 1


def test_computed_tables_are_written_like_weights(tmp_path):
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    recipe = WeightRecipe("rope_cos", FP32, (), (TensorSlot("rope.cos", "FLOAT", (3, 4)),))
    found = written(tmp_path, (recipe,), tables={"rope_cos": table})
    assert np.array_equal(found["rope.cos"].numpy(), table)


def test_progress_counts_every_byte(tmp_path):
    counts = []
    written(tmp_path, written=counts.append)
    assert sum(counts) == sum(slot_bytes(slot) for recipe in RECIPES for slot in recipe.outputs)
    assert len(counts) == place(RECIPES).entries


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_weight_that_is_not_finite_is_named(tmp_path, value, dtype):
    source = tensors()
    source["norm"] = source["norm"].astype(dtype)
    source["norm"][23] = value
    with pytest.raises(CheckpointError, match="tensor norm holds NaN or infinity"):
        written(tmp_path, source=source, threads=2)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("codes", 0x7F, "tensor matrix holds NaN"),
        ("codes", 0xFF, "tensor matrix holds NaN"),
        ("scales", np.nan, "tensor matrix_scale holds NaN or infinity"),
        ("scales", np.inf, "tensor matrix_scale holds NaN or infinity"),
        ("scales", -np.inf, "tensor matrix_scale holds NaN or infinity"),
        ("scales", 1e36, "tensor matrix_scale holds 1e[+]36, with which values overflow float32"),
    ],
)
@pytest.mark.parametrize("recipe", [RECIPES[1], RECIPES[3]], ids=["bf16", "int4"])
def test_e4m3_that_is_not_finite_is_named(tmp_path, recipe, place, value, message):
    stored = as_float8(tensors()["matrix"], WeightFormat("fp8", 128))
    written(tmp_path, (recipe,), source={"matrix": stored})
    (tmp_path / "weights.bin").unlink()
    broken = {"codes": stored.codes.copy(), "scales": stored.scales.copy()}
    broken[place].reshape(-1)[-1] = value
    with pytest.raises(CheckpointError, match=message):
        written(tmp_path, (recipe,), source={"matrix": Float8(**broken)})


def test_largest_finite_values_are_not_mistaken_for_infinity(tmp_path):
    source = tensors()
    source["norm"][:] = ml_dtypes.finfo(ml_dtypes.bfloat16).max
    found = written(tmp_path, (rows("norm", (24,)),), source=source)
    assert np.array_equal(found["norm"].numpy(), source["norm"].astype(np.float32))


@pytest.mark.parametrize("made", [np.zeros(23, np.float32), np.zeros(24, np.float16)])
def test_a_packer_that_makes_something_else_is_caught(tmp_path, monkeypatch, made):
    monkeypatch.setattr(stream, "pack", lambda *_: (made,))
    with pytest.raises(TypeError, match=r"norm, which is FLOAT \[24\]"):
        written(tmp_path, (rows("norm", (24,)),))


def test_an_initializer_without_a_recipe_is_caught():
    model, slots = graph_of(RECIPES)
    with pytest.raises(ValueError, match="no recipe makes the initializer half"):
        attach(model, place(RECIPES[:-1]), slots[:-1], "weights.bin")


def test_two_recipes_for_one_initializer_are_caught():
    with pytest.raises(ValueError, match="norm is made by two recipes"):
        place((rows("norm", (24,)), rows("norm", (24,), fmt=FP32, sources=(("matrix",),))))


@pytest.mark.parametrize(("dtype", "shape", "size"), [("INT4", (3, 5), 8), ("UINT4", (2,), 1), ("FLOAT16", (3, 5), 30)])
def test_slots_are_counted_in_packed_bytes(dtype, shape, size):
    assert slot_bytes(TensorSlot("x", dtype, shape)) == size


@pytest.mark.parametrize("accepted", [5, 3])
def test_an_array_is_written_whole_however_little_the_system_takes_at_once(tmp_path, monkeypatch, accepted):
    """A system may take fewer bytes than it is given."""
    monkeypatch.setattr(stream, "_WRITE_BYTES", 5)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:accepted], offset))
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    with (tmp_path / "file").open("wb") as file:
        stream._write(file.fileno(), array, 2)
    assert (tmp_path / "file").read_bytes() == b"\0\0" + array.tobytes()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_code_that_is_nan_is_found_in_every_row(row):
    codes = np.zeros((3, 4), np.uint8)
    codes[row, 1] = 0x7F
    with pytest.raises(CheckpointError, match="tensor matrix holds NaN"):
        stream._finite("matrix", Float8(codes, np.ones((1, 1), np.float32)))
