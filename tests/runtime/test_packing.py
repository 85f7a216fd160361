"""A packed step means its chunks."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_graphs.interface import PACKED
from qwen3_runtime.backends.elements import ELEMENTS
from qwen3_runtime.packing import Chunk, pack_step

CHUNKS = [
    Chunk(np.array([7, 8, 9]), 0, np.array([4, 2], np.int32)),
    Chunk(np.array([1]), 16, np.array([0, 5, 3], np.int32)),
]


@pytest.mark.parametrize(("rows", "expected"), [("all", [0, 1, 2, 3]), ("last", [2, 3])])
def test_a_step_is_its_chunks_one_after_the_other(rows: str, expected: list[int]) -> None:
    step = pack_step(CHUNKS, rows=rows)  # type: ignore[arg-type]
    assert step.input_ids.tolist() == [7, 8, 9, 1]
    assert step.query_start.tolist() == [0, 3, 4]
    assert step.context_len.tolist() == [0, 16]
    assert step.block_table.tolist() == [[4, 2, -1], [0, 5, 3]]
    assert step.logits_rows.tolist() == expected


def test_its_arrays_have_the_declared_types() -> None:
    step = pack_step(CHUNKS, rows="last")
    for each in PACKED:
        array = getattr(step, each.name)
        assert array.dtype == ELEMENTS[each.element].dtype
        assert array.ndim == len(each.shape)
