"""ONNX Runtime's own operators in float64 numpy, from their documentation, for ONNX's reference evaluator.

Positions, heads, tokens and experts are looped over one by one; codes are read byte by byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

DOMAIN = "com.microsoft"


def codes(packed: np.ndarray, bits: int) -> np.ndarray:
    """Signed values of unsigned codes along the last axis; of four bits, the low half of a byte comes first."""
    if bits == 8:
        return packed.astype(np.float64) - 128
    halves = np.stack([packed & 15, packed >> 4], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1).astype(np.float64) - 8


def spread(scales: np.ndarray, size: int) -> np.ndarray:
    return np.repeat(scales.astype(np.float64), size, axis=-1)


def swiglu_experts(x, logits, up, down, k):
    """Rows of `up` [E, 2I, H] hold gate and up projection in turns; shares of the chosen experts sum to one."""
    result = np.zeros((len(x), down.shape[1]))
    for row, token in enumerate(x.astype(np.float64)):
        score = np.exp(logits[row].astype(np.float64) - logits[row].max())
        chosen = np.argsort(-score, kind="stable")[:k]
        for e in chosen:
            both = up[e] @ token
            gate, linear = both[0::2], both[1::2]
            result[row] += score[e] / score[chosen].sum() * (down[e] @ (gate / (1 + np.exp(-gate)) * linear))
    return result


class Contrib(OpRun):
    op_domain = DOMAIN


class MatMulNBits(Contrib):
    def _run(self, a, b, scales, K=None, N=None, bits=None, block_size=None):  # noqa: N803 - the operator's names
        matrix = codes(b.reshape(N, -1), bits) * spread(scales.reshape(N, -1), block_size)
        return (a.astype(np.float64) @ matrix[:, :K].T,)


class MatMulBlockQuantizedFp8Weight(Contrib):
    def _run(self, a, b, scales, block_size=None):
        return (a.astype(np.float64) @ (b.astype(np.float64) * spread(scales, block_size)[:, : b.shape[1]]).T,)


class GatherBlockQuantized(Contrib):
    def _run(self, data, index, scales, bits=None, block_size=None, gather_axis=None, quantize_axis=None):
        assert (gather_axis, quantize_axis) == (0, 2)
        return (codes(data[index], bits) * spread(scales[index], block_size),)


class MoE(Contrib):
    def _run(
        self, x, logits, up, up_bias, down, k=None, normalize_routing_weights=None, activation_type=None,
        swiglu_fusion=None, activation_alpha=None, activation_beta=None,
    ):  # fmt: skip
        form = (normalize_routing_weights, activation_type, swiglu_fusion, activation_alpha, activation_beta)
        assert form == (1, "swiglu", 1, 1, 0)
        assert up_bias is None
        return (swiglu_experts(x, logits, up.astype(np.float64), down.astype(np.float64), k),)


class QMoE(Contrib):
    def _run(
        self, x, logits, up, up_scales, up_bias, down, down_scales, k=None, normalize_routing_weights=None,
        activation_type=None, swiglu_fusion=None, activation_alpha=None, activation_beta=None,
        expert_weight_bits=None, block_size=None, weights_prepacked=None,
    ):  # fmt: skip
        form = (normalize_routing_weights, activation_type, swiglu_fusion, activation_alpha, activation_beta)
        assert (*form, weights_prepacked) == (1, "swiglu", 1, 1, 0, 0)
        assert up_bias is None
        matrices = [
            codes(packed, expert_weight_bits) * spread(scales, block_size)
            for packed, scales in ((up, up_scales), (down, down_scales))
        ]
        return (swiglu_experts(x, logits, *matrices, k),)


class GroupQueryAttention(Contrib):
    def _run(
        self, query, key, value, past_key, past_value, seqlens_k, total, cos, sin, position_ids, bias, sink,
        k_scale, v_scale, q_norm, k_norm, num_heads=None, kv_num_heads=None, do_rotary=None, qk_norm_epsilon=None,
    ):  # fmt: skip
        assert [position_ids, bias, sink, k_scale, v_scale] == [None] * 5
        assert do_rotary == 1
        batch, length, width = query.shape
        size = width // num_heads
        keys, values = past_key.astype(np.float64), past_value.astype(np.float64)
        assert total == seqlens_k.max() + 1
        out = np.zeros((batch, length, num_heads, size))

        def prepared(x, weight, position):
            x = x / np.sqrt(np.mean(x**2) + qk_norm_epsilon) * weight.astype(np.float64)
            turn = cos[position].astype(np.float64) + 1j * sin[position].astype(np.float64)
            pair = (x[: size // 2] + 1j * x[size // 2 :]) * turn
            return np.concatenate([pair.real, pair.imag])

        def head(x, b, row, h):
            return x[b, row, h * size : (h + 1) * size].astype(np.float64)

        for b in range(batch):
            for row in range(length):
                position = seqlens_k[b] + 1 - length + row
                for h in range(kv_num_heads):
                    keys[b, h, position] = prepared(head(key, b, row, h), k_norm, position)
                    values[b, h, position] = head(value, b, row, h)
                for h in range(num_heads):
                    group = h * kv_num_heads // num_heads
                    wanted = prepared(head(query, b, row, h), q_norm, position)
                    score = keys[b, group, : position + 1] @ wanted / np.sqrt(size)
                    share = np.exp(score - score.max())
                    out[b, row, h] = share / share.sum() @ values[b, group, : position + 1]
        return out.reshape(batch, length, -1), keys, values


OPERATORS = [MatMulNBits, MatMulBlockQuantizedFp8Weight, GatherBlockQuantized, MoE, QMoE, GroupQueryAttention]


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Execute a graph in float64: its half-precision initializers are widened, nothing in between is rounded."""
    wide = onnx.ModelProto.FromString(model.SerializeToString())
    tensors: dict[str, Any] = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in wide.graph.initializer}
    del wide.graph.initializer[:]
    for name, array in tensors.items():
        wide.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None))
        if array.dtype.name in ("float16", "bfloat16", "float32"):
            tensors[name] = array.astype(np.float64)
    found = ReferenceEvaluator(wide, new_ops=OPERATORS).run(None, {**tensors, **feeds})
    return dict(zip((value.name for value in wide.graph.output), found, strict=True))
