"""The spec: every key, its type, its range and its default. `defaults.py` fills those that depend on other keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from qwen3_compile.spec.defaults import MAX_BATCH, fill_defaults
from qwen3_compile.spec.source import normal_source
from qwen3_compile.targets import find_named
from qwen3_graphs.architecture import Architecture, YarnScaling, layers_without_experts
from qwen3_graphs.formats import INTEGERS, CacheKind, FloatKind, WeightFormat, WeightKind
from qwen3_graphs.lowered import Limits, Precision
from qwen3_runtime.manifest import PluginName
from qwen3_runtime.sampling import MAX_TOP_K, RANGES

GroupSize: TypeAlias = Literal[32, 64, 128, "channel"]
Fp8Scale: TypeAlias = Literal["block", "channel", "tensor"]
Task: TypeAlias = Literal["chat", "completion", "embedding", "reranker"]
Backend: TypeAlias = Literal["ort", "onnx", "tensorrt", "tensorrt-rtx"]
Provider: TypeAlias = Literal["cpu", "cuda"]


def _plugins(value: object) -> object:
    """One message for the whole of a value that is a word or a list."""
    names = get_args(PluginName)
    if value in ("all", "none"):
        return value
    if isinstance(value, list) and value and all(name in names for name in value):
        if len(set(value)) < len(value):
            raise ValueError("expected each plugin once")
        return [name for name in names if name in value]  # in one order: equal engines have equal specs
    raise ValueError(f"expected all, none, or a list of {' and '.join(names)}")


def _backend(value: object) -> object:
    """Say of a target's name what to write instead; the schema reports other words."""
    if isinstance(value, str) and value not in get_args(Backend) and (target := find_named(value)):
        beside = f"provider: {target.provider} and plugins: {target.plugins[0]}"
        raise ValueError(f"expected backend: {target.backend}, with {beside} beside it")
    return value


Plugins: TypeAlias = Annotated[Literal["all", "none"] | list[PluginName], BeforeValidator(_plugins)]
Capability: TypeAlias = Annotated[str, Field(pattern=r"^[0-9]{1,2}\.[0-9]$")]
Thinking: TypeAlias = Literal["hybrid", "always", "never"]

SourceText: TypeAlias = Annotated[str, AfterValidator(normal_source)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]

FP8_BLOCK = 128  # rows and columns of the released checkpoints' blocks


def _derived(description: str, default: str) -> Any:  # noqa: ANN401 - stands for a value of the annotated type
    """Declare a key whose default depends on other keys; `fill_defaults` supplies it before validation."""
    return Field(default=None, description=description, json_schema_extra={"x-default": default})


def _without_null(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null: keys that came later change no manifest that does without them."""
    return {key: value for key, value in values.items() if value is not None}


class Section(BaseModel):
    """A mapping of the spec: immutable, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ArchitectureSection(Section):
    """The dimensions expected of the checkpoint, under the names of the released `config.json`."""

    vocab_size: Count = Field(description="rows of the embedding matrix")
    hidden_size: Count = Field(description="width of the residual stream")
    intermediate_size: Count = Field(description="width of a dense MLP; unused where every layer has experts")
    num_hidden_layers: Count = Field(description="layers")
    num_attention_heads: Count = Field(description="query heads")
    num_key_value_heads: Count = Field(description="key and value heads; divides the query heads")
    head_dim: Count = Field(description="width of a head; even, and not hidden_size / num_attention_heads in general")
    max_position_embeddings: Count = Field(description="tokens of context without rope scaling")
    rope_theta: float = Field(gt=0, description="base of the rotary embedding")
    tie_word_embeddings: bool = Field(description="whether the output matrix is the embedding matrix")
    rms_norm_eps: float = Field(default=1e-6, gt=0, lt=1, description="epsilon of every RMSNorm")
    num_experts: int = Field(default=0, ge=0, le=65536, description="experts per layer; 0 for a dense model")
    num_experts_per_tok: int = Field(default=0, ge=0, le=65536, description="experts that each token is routed to")
    moe_intermediate_size: int = Field(default=0, ge=0, le=2**31 - 1, description="width of an expert")
    norm_topk_prob: bool = Field(default=True, description="whether the chosen experts' weights are made to sum to 1")
    mlp_only_layers: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] | None = Field(
        default=None, description="layers, from 0, that have a dense MLP instead of experts; null: none"
    )
    decoder_sparse_step: Count | None = Field(
        default=None, description="a layer has experts where its number + 1 is a multiple of this; null: 1, all"
    )

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_null(handler(self))

    def dense_layers(self) -> tuple[int, ...]:
        """Layers of a mixture of experts that have none."""
        if not self.num_experts:
            return ()
        return layers_without_experts(self.num_hidden_layers, self.mlp_only_layers or (), self.decoder_sparse_step or 1)


class ModelSection(Section):
    """What is compiled."""

    source: SourceText = Field(
        description="checkpoint: a path (relative to the spec), `hf://org/name@revision` (the build records the "
        "commit) or `synthetic://SEED`"
    )
    tokenizer: SourceText | None = Field(
        default=None, description="source of the tokenizer files; null: the model's own"
    )
    task: Task = Field(default="chat", description="what the model was trained to do; `completion` is a base model")
    architecture: ArchitectureSection


class PrecisionSection(Section):
    """The number formats of the engine."""

    weights: WeightKind = Field(description="projections and experts")
    group_size: GroupSize | None = _derived(
        "consecutive inputs that share a scale (uint4: and a zero point), for integer formats; `channel`: one scale a "
        "row, for int8",
        "with an integer format 32, for TensorRT 128 with int4 and channel without; else null",
    )
    fp8_scales: Fp8Scale | None = _derived(
        "weights that share a scale, for fp8 (E4M3); `block`: 128 x 128, `channel`: a row, `tensor`: the whole matrix",
        "with an fp8 format block, for TensorRT channel; else null",
    )
    lm_head: WeightKind = _derived("output matrix", "same as weights")
    embedding: WeightKind = _derived(
        "input matrix", "for TensorRT same as activations, else same as lm_head where tied, same as weights where not"
    )
    activations: FloatKind = _derived("everything between matrices", "fp16 on cuda, else fp32")
    activation_quantization: Literal["int8", "fp8", "none"] | None = _derived(
        "type of the quantized inputs of matrices: `int8` with ONNX Runtime, the format of the matrices with TensorRT; "
        "`none`: not quantized",
        "none on cuda and for backend onnx; else int8 with an integer weights or lm_head, or none",
    )
    calibration_prompts: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="texts to measure the scales of quantized activations on (TensorRT); null: built-in "
        "texts of many kinds",
    )
    kv_cache: CacheKind = _derived("stored keys and values", "fp16 for ort with plugins, else same as activations")


class ProfilesSection(Section):
    """The sizes that TensorRT makes fastest, for prompts and for decode; every size within the limits is possible."""

    prefill_batch: Count = _derived("sequences of a step with several new tokens each", "1")
    prefill_tokens: Count = _derived("new tokens of each of them", "max_step_tokens")
    decode_batch: Count = _derived("sequences of a step with one new token each", "max_batch")


class TargetSection(Section):
    """What the engine is compiled for."""

    backend: Annotated[Backend, BeforeValidator(_backend)] = Field(
        default="ort",
        description="`ort`: ONNX Runtime; `onnx`: standard operators; `tensorrt`: TensorRT, built on its GPU; "
        "`tensorrt-rtx`: without a GPU",
    )
    provider: Provider = _derived("where it runs", "cuda for TensorRT, else cpu")
    plugins: Plugins = _derived(
        "whose operators run: `all`: ours, as plugins; `none`: the backend's own. TensorRT also takes a list of "
        "`attention` and `moe`",
        "all for ort on cpu, else none",
    )
    compute_capabilities: list[Capability] | None = _derived(
        "NVIDIA architectures (`8.9`) that the engine is built for; empty: the GPU of the machine that builds",
        "for tensorrt-rtx those of 8.0, 8.6, 8.9 and 12.0 that have the number formats; empty for tensorrt; else null",
    )
    profiles: ProfilesSection | None = _derived(
        "optimization profiles of TensorRT", "all defaults for TensorRT, else null"
    )


class LimitsSection(Section):
    """The sizes that the engine is built for."""

    max_context: Annotated[int, Field(ge=2, le=2**31 - 1)] = Field(
        description="maximum context of a sequence, in tokens"
    )
    max_batch: Count = Field(default=MAX_BATCH, description="maximum number of sequences in a step")
    max_step_tokens: Count = _derived(
        "maximum number of new tokens in a step; longer prompts are split", "512, or max_context where less"
    )


class RopeScalingSection(Section):
    """How rotary positions are scaled, whatever `config.json` says: a longer context, at some cost to short ones."""

    type: Literal["yarn", "linear", "default"] = Field(
        description="`yarn`: static YaRN, the scaling that Qwen3 is released with; `linear`: positions divided by "
        "factor; `default`: no scaling"
    )
    factor: Annotated[float, Field(ge=1, le=1024)] | None = Field(
        default=None, description="context multiple; yarn and linear need it"
    )
    original_max_position_embeddings: Count | None = Field(
        default=None, description="tokens of context that the model was trained with; yarn needs it"
    )
    attention_factor: Annotated[float, Field(gt=0, le=1024)] | None = Field(
        default=None, description="yarn: multiplier of cos and sin; null: 0.1 ln(factor) + 1"
    )
    beta_fast: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="yarn: turns in the original context above which a dimension stays; null: 32"
    )
    beta_slow: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="yarn: turns below which a dimension is divided by factor; null: 1"
    )
    truncate: bool | None = Field(
        default=None, description="yarn: whether the dimensions between them are rounded to whole ones; null: true"
    )

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_null(handler(self))


def _between(name: str) -> Any:  # noqa: ANN401 - a constraint, for Annotated
    """The range in which the runtime takes a sampling parameter."""
    low, high = RANGES[name]
    return Field(gt=low, le=high) if name == "top_p" else Field(ge=low, le=high)


class SamplingSection(Section):
    """How the next token is drawn when a request does not say."""

    temperature: Annotated[float, _between("temperature")] = _derived("0 is greedy", "0.6 for thinking, 0.7 without")
    top_p: Annotated[float, _between("top_p")] = _derived(
        "smallest set of tokens whose probabilities reach this sum; 1: off", "0.95 for thinking, 0.8 without"
    )
    top_k: int = Field(default=20, ge=0, le=MAX_TOP_K, description="most probable tokens to keep; 0: off")
    min_p: Annotated[float, _between("min_p")] = Field(
        default=0.0, description="minimum probability, as a fraction of the highest; 0: off"
    )
    presence_penalty: Annotated[float, _between("presence_penalty")] = Field(
        default=0.0, description="subtracted from the logit of a token seen before"
    )
    frequency_penalty: Annotated[float, _between("frequency_penalty")] = Field(
        default=0.0, description="subtracted once for each time it was seen"
    )
    repetition_penalty: Annotated[float, _between("repetition_penalty")] = Field(
        default=1.0, description="divides a seen token's positive logit; 1: off"
    )


class SamplingByModeSection(Section):
    """Sampling defaults of each mode that the model has."""

    thinking: SamplingSection | None = _derived("while thinking is on", "all defaults; null where thinking is `never`")
    non_thinking: SamplingSection | None = _derived(
        "while thinking is off", "all defaults; null where thinking is `always`"
    )


class ChatSection(Section):
    """Generation defaults; embedding models and rerankers have none."""

    thinking: Thinking = _derived(
        "`hybrid`: switched by each request; `always`: Thinking-2507; `never`: Instruct-2507, Coder and base models",
        "never for task completion, else hybrid",
    )
    thinking_budget: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = _derived(
        "tokens of thinking before the answer is forced; null: no budget",
        "8192, or half of max_tokens where less; null where thinking is `never`",
    )
    max_tokens: Count = _derived(
        "maximum number of new tokens of a request, including thinking", "32768, or max_context where less"
    )
    sampling: SamplingByModeSection = _derived("how tokens are drawn, by mode", "all defaults")


class AccuracyLimits(Section):
    """Accuracy limits against eager PyTorch in float32; a build that exceeds one fails. null: no limit."""

    max_kl: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="maximum of the mean KL(reference || engine) over all positions, in nats",
    )
    min_top1_agreement: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="minimum fraction of positions with the same most probable token"
    )
    max_logit_error: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="maximum |engine - reference| over the tokenizer vocabulary"
    )
    max_perplexity_ratio: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="maximum of engine perplexity / reference perplexity"
    )
    min_greedy_tokens: Count | None = Field(default=None, description="minimum number of equal greedy tokens")
    min_cosine: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        default=None, description="minimum cosine between outputs; the limit for embedding models"
    )
    prompts: list[str] | None = Field(default=None, description="prompts to compare on; null: built-in ones")
    text: str | None = Field(default=None, description="text to measure perplexity on; null: a built-in one")


class Spec(Section):
    """One engine: a model, its number formats, its target, its limits and how exact it must be."""

    schema_version: Literal[2] = Field(description="version of this format; 1 is read as well, with a warning")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="name of the engine and of its folder")
    model: ModelSection
    precision: PrecisionSection
    target: TargetSection = _derived("what the engine is compiled for", "all defaults")
    limits: LimitsSection
    rope_scaling: RopeScalingSection | None = Field(default=None, description="null: what config.json says")
    chat: ChatSection | None = _derived("generation defaults", "all defaults; null for embedding and reranker")
    accuracy: AccuracyLimits = AccuracyLimits()

    _base_dir: Path = PrivateAttr(default=Path())
    _notes: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: object) -> object:
        return fill_defaults(data)

    @property
    def base_dir(self) -> Path:
        """The folder of the spec file, from which relative sources count."""
        return self._base_dir

    @property
    def notes(self) -> tuple[str, ...]:
        """What was read under an old name, and how to write it now."""
        return self._notes

    def has_plugin(self, name: PluginName) -> bool:
        """Whether an operator is our plugin; attention's decides the interface of a step."""
        return self.target.plugins == "all" or name in self.target.plugins

    def resolved(self) -> dict[str, Any]:
        """Return the whole spec, defaults filled in, as JSON-able values; reading it again gives an equal spec."""
        return self.model_dump(mode="json")

    def graph_architecture(self) -> Architecture:
        """Return the dimensions as the graphs package wants them, rope scaling included."""
        given: dict[str, Any] = self.rope_scaling.model_dump() if self.rope_scaling else {"type": "default"}
        kind = given.pop("type")
        yarn = YarnScaling(**given) if kind == "yarn" else None
        factor = given["factor"] if kind == "linear" else 1.0
        architecture = self.model.architecture
        dimensions = architecture.model_dump(exclude={"mlp_only_layers", "decoder_sparse_step"})
        dense = architecture.dense_layers()
        return Architecture(**dimensions, yarn=yarn, rope_factor=factor, dense_layers=dense)

    def graph_precision(self) -> Precision:
        """Return the number formats as the graphs package wants them."""
        precision = self.precision
        group = precision.group_size if isinstance(precision.group_size, int) else 0
        block = FP8_BLOCK if precision.fp8_scales == "block" else 0

        def weight_format(kind: WeightKind) -> WeightFormat:
            if kind == "fp8":
                return WeightFormat(kind, block, per_tensor=precision.fp8_scales == "tensor")
            return WeightFormat(kind, group if kind in INTEGERS else 0)

        return Precision(
            weights=weight_format(precision.weights),
            lm_head=weight_format(precision.lm_head),
            embedding=weight_format(precision.embedding),
            activations=precision.activations,
            kv_cache=precision.kv_cache,
            quantized_activations=precision.activation_quantization != "none",
        )

    def graph_limits(self) -> Limits:
        """Return the limits as the graphs package wants them."""
        return Limits(**self.limits.model_dump())
