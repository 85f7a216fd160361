"""The header of a safetensors file is never trusted: damage of any kind is one line, and sound files are read.

Covers: random damage
Reference: the `safetensors` library
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3_compile.checkpoint.safetensors_file import read_header
from qwen3_compile.errors import CheckpointError

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
SOUND = safetensors.numpy.save(
    {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16), "c": np.zeros((0, 5), np.float32)}
)


def file_of(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def refusal(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names_or_error(path):
    """The names in a file that reads, the message of one that does not; any other exception goes through."""
    try:
        return read_header(path).keys()
    except CheckpointError as error:
        return str(error)


@SHARED_FOLDER
@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.lists(st.integers(1, 5), max_size=3), st.sampled_from([np.float16, np.float32]), st.integers(0, 1000)
        ),
        min_size=1,  # safetensors 0.8 writes broken JSON for no tensor and empty metadata
        max_size=5,
    ),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_what_the_reference_implementation_writes_is_read_back(tmp_path, arrays, metadata):
    written = {
        name: np.random.default_rng(seed).normal(size=shape).astype(dtype)
        for name, (shape, dtype, seed) in arrays.items()
    }
    path = tmp_path / "sound.safetensors"
    path.write_bytes(safetensors.numpy.save(written, metadata))
    header = read_header(path)
    assert header.keys() == written.keys()
    for name, array in written.items():
        view = header[name].view()
        assert view.dtype == array.dtype
        np.testing.assert_array_equal(view, array)
        assert not view.flags.writeable


def test_a_view_of_misaligned_bytes_is_right(tmp_path):
    path = tmp_path / "odd.safetensors"
    values = np.arange(5, dtype=np.float32)
    text = json.dumps({"x": entry("F32", (5,), (0, 20))}).encode()
    text += b" " * (1 - len(text) % 2 + 0)  # an odd header length puts the data at an odd offset
    path.write_bytes(file_of(text, values.tobytes()))
    view = read_header(path)["x"].view()
    assert (8 + len(text)) % 4
    assert view.flags.aligned
    np.testing.assert_array_equal(view, values)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes"),
        (b"\x01\x02", "incomplete safetensors file"),
        (file_of({}, length=2**63), "incomplete safetensors file"),
        (file_of({"x": entry()}, b"\0" * 8, length=9_000), "incomplete safetensors file"),
        (file_of(b"not json"), "not valid JSON"),
        (file_of(b"\xff\xff"), "not valid JSON"),
        (file_of(b"[" * 200_000), "not valid JSON"),
        (file_of(b'{"x": ' + b"9" * 5000 + b"}"), "not valid JSON"),
        (file_of([1]), "expected a JSON object"),
        (file_of(b'{"x": {}, "x": {}}'), "appears twice"),
        (file_of({"x": 1}), "expected dtype"),
        (file_of({"x": {"dtype": "F32"}}), "expected dtype"),
        (file_of({"x": entry("Q4")}, b"\0" * 8), "unknown dtype 'Q4'"),
        (file_of({"x": entry(["F32"])}, b"\0" * 8), "unknown dtype"),
        (file_of({"x": entry(shape=[-2])}, b"\0" * 8), "not a list of sizes"),
        (file_of({"x": entry(shape=[2.0])}, b"\0" * 8), "not a list of sizes"),
        (file_of({"x": entry(shape=[True, 2])}, b"\0" * 8), "not a list of sizes"),
        (file_of({"x": entry(shape=[2**62, 2**62])}, b"\0" * 8), "takes"),
        (file_of({"x": entry(offsets=(8, 0))}, b"\0" * 8), "not a begin and an end"),
        (file_of({"x": entry(offsets=(0, 8, 9))}, b"\0" * 8), "not a begin and an end"),
        (file_of({"x": entry(offsets=(0, 4))}, b"\0" * 4), "takes 8 bytes"),
        (file_of({"x": entry(offsets=(4, 12))}, b"\0" * 12), "leaves a hole"),
        (file_of({"x": entry(), "y": entry()}, b"\0" * 8), "overlaps"),
        (file_of({"x": entry(), "y": entry(offsets=(4, 12))}, b"\0" * 12), "overlaps"),
        (file_of({"x": entry()}, b"\0" * 7), "declares 8 bytes"),
        (file_of({"x": entry()}, b"\0" * 9), "declares 8 bytes"),
        (file_of({"x": entry("F4", (3,), (0, 1))}, b"\0"), "takes 1.5 bytes"),
    ],
)
def test_each_rule_of_the_format_has_its_message(tmp_path, content, said):
    assert said in refusal(tmp_path / "bad.safetensors", content)


@SHARED_FOLDER
@given(position=st.integers(0, len(SOUND) - 1), values=st.binary(min_size=1, max_size=12), cut=st.integers(0, 40))
def test_random_damage_gives_a_checkpoint_error_or_a_readable_file(tmp_path, position, values, cut):
    path = tmp_path / "damaged.safetensors"
    damaged = SOUND[:position] + values + SOUND[position + len(values) :]
    path.write_bytes(damaged[: len(damaged) - cut])
    names = names_or_error(path)
    # Damage to the data, or to a name, leaves a sound file: the reference implementation agrees.
    assert "\n" not in names if isinstance(names, str) else names == safetensors.numpy.load(path.read_bytes()).keys()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=6), children, max_size=4),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F8_E4M3"]) | json_values,
        "shape": st.lists(st.integers(-1, 2**64), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 2**64), min_size=2, max_size=2) | json_values,
    }
)


@SHARED_FOLDER
@given(header=st.dictionaries(st.text(max_size=5), entries | json_values, min_size=1, max_size=3), data=st.binary())
def test_an_arbitrary_header_never_raises_anything_else(tmp_path, header, data):
    path = tmp_path / "arbitrary.safetensors"
    path.write_bytes(file_of(header, data))
    names = names_or_error(path)
    assert "\n" not in names if isinstance(names, str) else names == header.keys() - {"__metadata__"}


def test_a_folder_or_nothing_in_place_of_the_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_header(path)
