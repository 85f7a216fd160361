"""Our operators as `IPluginV3`, for networks that come through the ONNX parser of either module.

TensorRT asks a plugin for types, shapes, formats, workspace and the fields to store in the plan; the answers come
from an `Operator`. A plan holds the attributes and the compiled kernels, so that running it needs neither Triton nor
a compiler, but it needs this module: `register_operators` before the plan is deserialized.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qwen3_plugins.tensorrt import binary, kernel_launch
from qwen3_plugins.tensorrt.attention import AttentionOperator
from qwen3_plugins.tensorrt.errors import PluginError
from qwen3_plugins.tensorrt.moe import MoEOperator
from qwen3_plugins.tensorrt.operator import VERSION, Operator, attribute_types, check_type, with_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from qwen3_plugins.tensorrt.operator import Shape

Result = TypeVar("Result")

OPERATORS: tuple[type[Operator], ...] = (AttentionOperator, MoEOperator)
NAMESPACE = ""  # of the creators: where the ONNX parser looks, whatever the domain of the node
KERNELS = "kernels"  # the field of a plan that holds the compiled kernels

_registered: dict[str, tuple[Any, ...]] = {}  # the registry of TensorRT does not keep creators alive
_capabilities: list[int] = []
_refusals: list[str] = []


def register_operators(trt: ModuleType, capabilities: Sequence[int] = ()) -> None:
    """Make the operators known to the plugin registry of `trt`, which `load_tensorrt` gave.

    Args:
        trt: the module.
        capabilities: compute capabilities, times ten, that plans built from now on get kernels for. None are needed
            to run a plan.

    Raises:
        PluginError: another plugin has the name of one of ours.
    """
    _capabilities[:] = capabilities
    if trt.__name__ in _registered:
        return
    creators = tuple(_creator(trt, operator) for operator in OPERATORS)
    for creator in creators:
        if not trt.get_plugin_registry().register_creator(creator, NAMESPACE):
            raise PluginError(f"{trt.__name__} already has a plugin {creator.name}, version {VERSION}")
    _registered[trt.__name__] = creators


def allow_in_place(trt: ModuleType, config: Any) -> None:  # noqa: ANN401 - IBuilderConfig of either module
    """Let plugins of a build write to an input that is also their output: the cache of `Qwen3Attention`."""
    config.set_preview_feature(trt.PreviewFeature.ALIASED_PLUGIN_IO_10_03, True)


def take_refusals() -> tuple[str, ...]:
    """Return why plugins refused attributes, types or shapes since the last call, one line each.

    TensorRT itself says no more than that a plugin could not be created or configured.
    """
    found = tuple(_refusals)
    _refusals.clear()
    return found


def _type_names(trt: ModuleType) -> dict[Any, str]:
    kinds = trt.DataType
    return {
        kinds.FLOAT: "fp32",
        kinds.HALF: "fp16",
        kinds.BF16: "bf16",
        kinds.INT32: "i32",
        kinds.INT8: "i8",
    }


def _creator(trt: ModuleType, operator: type[Operator]) -> Any:  # noqa: ANN401 - of a class made of the module's
    plugin = _plugin_class(trt, operator)

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[name-defined, misc]  # the module has no types
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = operator.NAME, NAMESPACE, VERSION
            self.field_names = trt.PluginFieldCollection(
                [trt.PluginField(name, *_stored(trt, kind())) for name, kind in attribute_types(operator).items()]
            )

        def create_plugin(self, _name: str, fields: Any, _phase: Any) -> Any:  # noqa: ANN401 - classes of the module
            given = {field.name: np.asarray(field.data).reshape(-1) for field in fields}
            made = _note_refusals(lambda: with_attributes(operator, _attributes(operator, given)))
            stored = given.get(KERNELS, np.empty(0, np.int8)).tobytes()
            return plugin(made, _note_refusals(lambda: binary.deserialize_binaries(stored)) if stored else ())

    return Creator()


def _attributes(operator: type[Operator], given: Mapping[str, Any]) -> dict[str, int | float | str]:
    """The attributes among the fields: text is int8, perhaps with a zero at its end, numbers are arrays of one."""
    return {
        name: given[name].astype(np.uint8).tobytes().rstrip(b"\0").decode() if kind is str else given[name][0].item()
        for name, kind in attribute_types(operator).items()
        if name in given
    }


def _stored(trt: ModuleType, value: int | float | str | bytes) -> tuple[Any, Any]:  # noqa: PYI041 - int is not float
    """A field's data and its type."""
    kinds = trt.PluginFieldType
    if isinstance(value, str):
        return np.frombuffer(value.encode(), np.int8), kinds.CHAR
    if isinstance(value, bytes):
        return np.frombuffer(value, np.int8), kinds.INT8
    if isinstance(value, float):
        return np.array([value], np.float32), kinds.FLOAT32
    return np.array([value], np.int32), kinds.INT32


def _plugin_class(trt: ModuleType, kind: type[Operator]) -> type:  # noqa: C901 - a class of many short answers
    parts = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuildV2, trt.IPluginV3OneRuntime)
    names = _type_names(trt)
    data_types = {name: data_type for data_type, name in names.items()}

    class Plugin(*parts):  # type: ignore[misc]  # the module has no types
        """What TensorRT calls; see its documentation of the interfaces for when."""

        def __init__(self, operator: Operator, binaries: tuple[binary.Binary, ...]) -> None:
            for part in parts:
                part.__init__(self)
            self.operator, self.binaries = operator, binaries
            self.activations = ""  # this and the shapes are known once TensorRT has configured the plugin
            self.shapes: tuple[Shape, ...] = ()
            self.plugin_name, self.plugin_namespace, self.plugin_version = kind.NAME, NAMESPACE, VERSION
            self.num_outputs, self.format_combination_limit = len(kind.OUTPUTS), 1
            self.metadata_string = self.timing_cache_id = ""

        def get_capability_interface(self, _type: Any) -> Any:  # noqa: ANN401
            return self

        def clone(self) -> Any:  # noqa: ANN401
            copy = Plugin(self.operator, self.binaries)
            copy.activations, copy.shapes = self.activations, self.shapes
            return copy

        def get_output_data_types(self, found: Sequence[Any]) -> list[Any]:
            given = [names.get(one, str(one)) for one in found]
            for position in range(len(given)):
                _note_refusals(partial(check_type, self.operator, position, given))
            self.activations = given[0]
            return [data_types[name] for name in self.operator.types(given[0])[len(kind.INPUTS) :]]

        def get_output_shapes(self, given: Sequence[Any], _shape_inputs: Any, _builder: Any) -> list[Any]:  # noqa: ANN401
            shapes = [_known(shape) for shape in given]
            _note_refusals(lambda: self.operator.check(shapes))
            if self.activations:
                # Compiled once and asked for again when the plan is written. An error is told here, while a file is
                # parsed; later on, TensorRT-RTX 1.7 ends the process.
                _note_refusals(lambda: _compile(self.operator, self.activations, shapes))
            return [trt.DimsExprs(given[source]) for source in self.operator.output_sources()]

        def supports_format_combination(self, position: int, tensors: Sequence[Any], _inputs: int) -> bool:
            if tensors[position].desc.format != trt.TensorFormat.LINEAR:
                return False
            try:
                check_type(self.operator, position, [names.get(one.desc.type, "") for one in tensors[: position + 1]])
            except PluginError:
                return False
            return True

        def get_aliased_input(self, output: int) -> int:
            alias = kind.ALIASES.get(kind.OUTPUTS[output])
            return -1 if alias is None else kind.INPUTS.index(alias)

        def configure_plugin(self, given: Sequence[Any], _outputs: Sequence[Any]) -> None:
            self.activations = names[given[0].desc.type]
            self.shapes = tuple(tuple(one.max) for one in given)
            _note_refusals(lambda: self.operator.check([tuple(one.desc.dims) for one in given]))

        def get_workspace_size(self, given: Sequence[Any], _outputs: Sequence[Any]) -> int:
            return self.operator.workspace(names[given[0].desc.type], [tuple(one.max) for one in given])

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, _tactic: int) -> None:
            pass

        def get_fields_to_serialize(self) -> Any:  # noqa: ANN401
            attributes = {name: getattr(self.operator, name) for name in attribute_types(kind)}
            if not self.binaries and _capabilities:
                self.binaries = _note_refusals(lambda: _compile(self.operator, self.activations, self.shapes))
            fields = {**attributes, KERNELS: _note_refusals(lambda: binary.serialize_binaries(self.binaries))}
            # The arrays must live as long as the collection: TensorRT reads them after this returns.
            self._stored = [trt.PluginField(name, *_stored(trt, value)) for name, value in fields.items()]
            return trt.PluginFieldCollection(self._stored)

        def attach_to_context(self, _context: Any) -> Any:  # noqa: ANN401
            copy = self.clone()
            for one in copy.code().values() if copy.binaries else ():
                kernel_launch.load(one)  # now, for a module cannot be loaded while a CUDA graph is recorded
            return copy

        def code(self) -> dict[str, binary.Binary]:
            """The kernels for the GPU of the current context, by name."""
            return binary.for_device(self.binaries, kernel_launch.capability())

        def on_shape_change(self, _inputs: Sequence[Any], _outputs: Sequence[Any]) -> None:
            pass

        def enqueue(
            self,
            given: Sequence[Any],
            _outputs: Sequence[Any],
            pointers: Sequence[int],
            results: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            places = dict(zip((*kind.INPUTS, *kind.OUTPUTS), (*pointers, *results), strict=True))
            shapes = [tuple(one.dims) for one in given]
            code = self.code()
            built_for = next(iter(code.values())).capability
            for one in self.operator.launches(names[given[0].type], shapes, built_for):
                kernel_launch.launch_kernel(one, code[one.name], places, workspace, stream)

    return Plugin


def _compile(operator: Operator, activations: str, shapes: Sequence[Shape]) -> tuple[binary.Binary, ...]:
    return tuple(
        binary.compile_binary(name, kernel, capability)
        for capability in _capabilities
        for name, kernel in operator.kernels(activations, shapes, capability).items()
    )


def _known(shape: Any) -> Shape:  # noqa: ANN401 - DimsExprs
    """Return the dimensions of a symbolic shape, -1 where one is not a constant."""
    return tuple(one.get_constant_value() if one.is_constant() else -1 for one in shape)


def _note_refusals(ask: Callable[[], Result]) -> Result:
    """Call `ask`; note what it raises, for TensorRT's own error does not repeat it, and it may go on without one."""
    try:
        return ask()
    except Exception as error:
        _refusals.append(str(error) or type(error).__name__)
        raise
