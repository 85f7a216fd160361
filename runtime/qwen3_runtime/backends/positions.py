"""How many positions the tables of a graph have, read from its file without a library for ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.errors import DamagedEngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TABLES = (b"rope.cos", b"rope.sin")

# Numbers of the fields in onnx.proto: of a model, a graph and a tensor.
_GRAPH, _INITIALIZER, _DIMS, _NAME = 7, 5, 1, 8


def check_positions(model: Path, max_context: int) -> None:
    """Hold the manifest's longest sequence to the rows of the graph's cosines and sines, which no step may exceed.

    A graph that is damaged, or has no such tables, is for others to judge.

    Raises:
        DamagedEngineError: the tables are shorter.
    """
    try:
        graph = memoryview(model.read_bytes())
    except OSError as error:
        raise DamagedEngineError(f"{model}: cannot be read ({error.strerror})") from None
    rows = dict(_table_rows(graph))
    for name, count in rows.items():
        if count < max_context:
            raise DamagedEngineError(
                f"manifest.json: max_context is {max_context}, but {name.decode()} of model.onnx has {count} rows: "
                "the manifest was edited; build the engine again"
            )


def _table_rows(model: memoryview) -> Iterator[tuple[bytes, int]]:
    for graph in _messages(model, _GRAPH):
        for tensor in _messages(graph, _INITIALIZER):
            name = next((bytes(value) for value in _messages(tensor, _NAME)), b"")
            if name in _TABLES:
                dims = [value for number, value in _fields(tensor) if number == _DIMS]
                if dims and isinstance(dims[0], int):
                    yield name, dims[0]
                elif dims and isinstance(dims[0], memoryview):
                    yield name, _varint(dims[0], 0)[0]


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message by number, as far as it is well formed: numbers, or the bytes of the rest."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            return
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, place
