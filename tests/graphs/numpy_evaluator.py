"""Semantic graphs executed by ONNX's own reference evaluator, the qwen3 operators written in float64 numpy.

Nothing here is shared with the eager model: positions are looped over one by one, heads one by one.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from qwen3_graphs import schemas

schemas.register_schemas()


class Embedding(OpRun):
    op_domain = "qwen3"

    def _run(self, ids, weight):
        return (weight[ids],)


class Linear(OpRun):
    op_domain = "qwen3"

    def _run(self, x, weight):
        return (np.einsum("...k,nk->...n", x, weight),)


class Attention(OpRun):
    op_domain = "qwen3"
    op_schema = onnx.defs.get_schema("Attention", schemas.VERSION, "qwen3")  # not the standard operator's

    def _run(
        self, q, k, v, q_norm, k_norm, cos, sin, kv, query_start, context_len, block_table,
        num_heads=None, kv_num_heads=None, head_dim=None, epsilon=None,
    ):  # fmt: skip
        block, kv, out = kv.shape[3], kv.copy(), np.zeros((len(q), num_heads, head_dim))

        def prepared(row, weight, position):
            x = row * weight / np.sqrt(np.mean(row**2) + epsilon)
            pair = (x[: head_dim // 2] + 1j * x[head_dim // 2 :]) * (cos[position] + 1j * sin[position])
            return np.concatenate([pair.real, pair.imag])

        for b, context in enumerate(context_len):
            for row in range(query_start[b], query_start[b + 1]):
                position = context + row - query_start[b]
                page, slot = block_table[b, position // block], position % block
                for h in range(kv_num_heads):
                    kv[page, 0, h, slot] = prepared(k[row].reshape(kv_num_heads, head_dim)[h], k_norm, position)
                    kv[page, 1, h, slot] = v[row].reshape(kv_num_heads, head_dim)[h]
                for h in range(num_heads):
                    query = prepared(q[row].reshape(num_heads, head_dim)[h], q_norm, position)
                    g = h * kv_num_heads // num_heads
                    seen = [(block_table[b, p // block], p % block) for p in range(position + 1)]
                    score = np.array([kv[page, 0, g, slot] @ query for page, slot in seen]) / np.sqrt(head_dim)
                    weight = np.exp(score - score.max())
                    values = np.array([kv[page, 1, g, slot] for page, slot in seen])
                    out[row, h] = weight / weight.sum() @ values
        return out.reshape(len(q), -1), kv


class MoE(OpRun):
    op_domain = "qwen3"

    def _run(self, x, router, gate, up, down, top_k=None, normalize=None):
        out = np.zeros_like(x)
        for row, token in enumerate(x):
            score = router @ token
            probability = np.exp(score - score.max())
            probability /= probability.sum()
            chosen = np.argsort(-probability, kind="stable")[:top_k]
            total = probability[chosen].sum() if normalize else 1.0
            for e in chosen:
                hidden = gate[e] @ token
                hidden = hidden / (1 + np.exp(-hidden)) * (up[e] @ token)
                out[row] += probability[e] / total * (down[e] @ hidden)
        return (out,)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Execute a semantic graph whose initializers are taken from `weights`, in float64."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    wanted = [tensor.name for tensor in model.graph.initializer]
    for tensor in model.graph.initializer:
        assert tuple(tensor.dims) == weights[tensor.name].shape, tensor.name
    del model.graph.initializer[:]
    for name in wanted:
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None))
    evaluator = ReferenceEvaluator(model, new_ops=[Embedding, Linear, Attention, MoE])
    wide = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in {**feeds, **{name: weights[name] for name in wanted}}.items()
    }
    return dict(zip((value.name for value in model.graph.output), evaluator.run(None, wide), strict=True))
