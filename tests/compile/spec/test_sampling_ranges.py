"""The spec takes for a sampling parameter what the runtime takes, no more and no less."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from qwen3_compile.spec.schema import SamplingSection
from qwen3_runtime import RequestError, Sampling
from qwen3_runtime.sampling import MAX_TOP_K, RANGES


@pytest.mark.parametrize("name", [*RANGES, "top_k"])
def test_the_spec_takes_what_the_runtime_takes(name: str) -> None:
    low, high = RANGES.get(name, (0, MAX_TOP_K))
    step = 1 if name == "top_k" else 1e-6
    for value in (low - step, low, low + step, high - step, high, high + step):
        given = {"temperature": 1.0, "top_p": 1.0, name: type(step)(value)}
        assert accepts(SamplingSection, ValidationError, given) == accepts(Sampling, RequestError, given), value


def accepts(kind: type, error: type[Exception], given: dict[str, float]) -> bool:
    try:
        kind(**given)
    except error:
        return False
    return True
