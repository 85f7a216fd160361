"""The ONNX schemas of the semantic operators: what a semantic graph may contain besides standard operators."""

from __future__ import annotations

from onnx import defs

DOMAIN = "qwen3"
VERSION = 1
OPSET = 23  # of the standard operators: the first with RMSNormalization

_INTEGER = defs.OpSchema.AttrType.INT
_FLOAT = defs.OpSchema.AttrType.FLOAT
_FLOATING = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]


def _schema(
    name: str, doc: str, inputs: str, outputs: str, attributes: dict[str, defs.OpSchema.AttrType]
) -> defs.OpSchema:
    """Declare an operator; a parameter is written "name" where it is of floating-point type T, else "name:type"."""

    def parameters(text: str) -> list[defs.OpSchema.FormalParameter]:
        pairs = [parameter.partition(":") for parameter in text.split()]
        return [defs.OpSchema.FormalParameter(label, f"tensor({kind})" if kind else "T") for label, _, kind in pairs]

    return defs.OpSchema(
        name,
        DOMAIN,
        VERSION,
        doc,
        inputs=parameters(inputs),
        outputs=parameters(outputs),
        type_constraints=[("T", _FLOATING, "Floating point.")],
        attributes=[defs.OpSchema.Attribute(key, kind, "", required=True) for key, kind in attributes.items()],
    )


SCHEMAS = (
    _schema("Embedding", "Rows of weight [V,H] at ids [T] -> [T,H].", "ids:int64 weight", "out", {}),
    _schema("Linear", "x [...,K] times the transpose of weight [N,K] -> [...,N].", "x weight", "out", {}),
    _schema(
        "Attention",
        "RMSNorm of each query and key head, RoPE at context_len + index, append to the paged cache, and causal "
        "grouped-query attention scaled by head_dim ** -0.5.",
        "q k v q_norm k_norm cos sin kv query_start:int32 context_len:int32 block_table:int32",
        "out kv_out",
        {"num_heads": _INTEGER, "kv_num_heads": _INTEGER, "head_dim": _INTEGER, "epsilon": _FLOAT},
    ),
    _schema(
        "MoE",
        "Softmax over all experts, top-k, renormalization when normalize, weighted sum of the chosen SwiGLU experts.",
        "x router gate up down",
        "out",
        {"top_k": _INTEGER, "normalize": _INTEGER},
    ),
)


def register_schemas() -> None:
    """Make the schemas known to ONNX's checker and to the tracer; more than once does no harm."""
    for schema in SCHEMAS:
        if not defs.has(schema.name, schema.domain):
            defs.register_schema(schema)
