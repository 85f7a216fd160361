"""Each lowering says which weight formats its operators compute, and refuses all others.

Reference: a throw-away format, of which no lowering but that to standard operators can know
"""

from __future__ import annotations

import subprocess
import sys

from qwen3_graphs.lower import LOWERINGS

# Signed bytes that begin at -32: MatMulNBits and our own operators would read them as codes from -128.
NEW_KIND = """
from qwen3_graphs import formats
formats.KINDS["int6"] = formats.ElementKind(8, "INT8", ("per-channel", "per-group"), (-32, 31))
formats.INTEGERS += ("int6",)
"""
LOWER_IT = """
from qwen3_graphs.errors import LoweringError
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import LOWERINGS, lower
from qwen3_graphs.lowered import Limits, Precision

new, limits = WeightFormat("int6", 32), Limits(64, 1, 64)
for lowering in LOWERINGS:
    for activations in ("fp32", "fp16"):
        try:
            lower(None, lowering, Precision(new, new, new, activations, "fp16"), limits)
        except LoweringError as error:
            print(lowering, activations, error)
        except AttributeError:  # its formats were looked at; there is no graph
            print(lowering, activations, "computed")
"""


def run(*program: str) -> list[str]:
    return subprocess.check_output([sys.executable, "-c", "".join(program)], text=True).splitlines()


def test_a_new_kind_of_codes_is_computed_by_those_that_say_so() -> None:
    found = run(NEW_KIND, LOWER_IT)
    assert len(found) == 2 * len(LOWERINGS)
    assert [line for line in found if line.endswith("computed")] == ["onnx fp32 computed"]


def test_a_target_offers_a_new_kind_where_its_lowering_computes_it() -> None:
    asked = (
        "from qwen3_compile.targets import TARGETS; print(*(t.name for t in TARGETS if 'int6' in t.formats.weights))"
    )
    assert run(NEW_KIND, asked) == ["onnx"]
