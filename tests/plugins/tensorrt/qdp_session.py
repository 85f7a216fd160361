"""A process with the Python half of TensorRT's plugins and nothing behind it, asked by lines of JSON.

`tensorrt-cu13-bindings` brings NVIDIA's own registration, validation and symbolic sizes, and wants a library that
machines without a GPU need not have; nine empty functions take its place. An expression is a number here that does not
admit to being one, as in an engine whose step sizes are not known when it is built.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

_OPERATIONS = {
    "SUM": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "PROD": lambda a, b: a * b,
    "MAX": max,
    "MIN": min,
    "LESS": lambda a, b: int(a < b),
    "EQUAL": lambda a, b: int(a == b),
    "FLOOR_DIV": lambda a, b: a // b,
    "CEIL_DIV": lambda a, b: -(-a // b),
}


class Expression:
    """Stands for `IDimensionExpr`."""

    def __init__(self, value: int) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return False

    def get_constant_value(self) -> int:
        raise AssertionError("asked for the value of a size that is not known yet")


class Builder:
    """Stands for `IExprBuilder`."""

    def constant(self, value: int) -> Expression:
        return Expression(value)

    def operation(self, kind: Any, first: Expression, second: Expression) -> Expression:
        return Expression(_OPERATIONS[str(kind).rpartition(".")[2]](first.value, second.value))


def main() -> None:
    for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
        ctypes.CDLL(str(Path(sys.argv[1]) / f"{name}.so.11"), ctypes.RTLD_GLOBAL)
    import tensorrt_bindings as trt

    sys.modules["tensorrt"] = trt
    import tensorrt.plugin as trtp
    from tensorrt.plugin import _lib, _plugin_class, _tensor

    from qwen3_plugins.tensorrt import qdp

    _lib._register_plugin_creator = lambda *_: None  # the registry is in the library
    qdp.register_kernels(trtp, 89)

    def types_of(name: str, kinds: list[str], ranks: list[int], attributes: dict[str, Any]) -> Any:
        """Through the class that TensorRT would call."""
        found = _lib.QDP_REGISTRY[f"qwen3::{name}"]
        plugin = _plugin_class._TemplateAOTPlugin(name, "qwen3", found.num_outputs)
        plugin.init(found.register_func, attributes, [], found.aot_impl_func, [], found.autotune_func)
        types = plugin.get_output_data_types([getattr(trt.DataType, kind) for kind in kinds], ranks)
        aliases = [plugin.get_aliased_input(index) for index in range(found.num_outputs)]
        return {"types": [kind.name for kind in types], "aliases": aliases}

    def launch_of(name: str, kinds: list[str], shapes: list[list[int]], attributes: dict[str, Any], tactic: int) -> Any:
        found = _lib.QDP_REGISTRY[f"qwen3::{name}"]
        real, trt.IDimensionExpr = trt.IDimensionExpr, Expression
        _tensor.SymIntExpr._exprBuilder = Builder()
        try:
            inputs = [
                trtp.from_shape_expr(
                    tuple(trtp.ShapeExpr(Expression(size)) for size in shape), getattr(trt.DataType, kind)
                )
                for kind, shape in zip(kinds, shapes, strict=True)
            ]
            outputs = found.register_func(*inputs, **attributes)
            offered = found.autotune_func(*inputs, *attributes.values(), outputs)
            combinations = [combination for one in offered for combination in one._get_combinations()]
            entry, ptx, launch, scalars = found.aot_impl_func(*inputs, *attributes.values(), outputs, tactic)
            value = lambda expression: expression._expr.value  # noqa: E731
            return {
                "outputs": [[value(size) for size in one.shape_expr] for one in outputs],
                "tactics": sorted(set(combinations[0].tactics)),
                "types": [kind.name for kind in combinations[0].types],
                "entry": entry,
                "ptx": ptx,
                "grid": [value(getattr(launch, f"grid_{axis}")) for axis in "xyz"],
                "threads": value(launch.block_x),
                "shared": value(launch.shared_mem),
                "scalars": [value(one) for one in scalars],
            }
        finally:
            trt.IDimensionExpr, _tensor.SymIntExpr._exprBuilder = real, None

    def build_for(capability: int) -> Any:
        qdp.register_kernels(trtp, capability)
        return {}

    asked = {"build_for": build_for, "types": types_of, "launch": launch_of}
    print(json.dumps({"version": trt.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = asked[request.pop("ask")](**request)
        except Exception as error:  # noqa: BLE001 - told to the test
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
