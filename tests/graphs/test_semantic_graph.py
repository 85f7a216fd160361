"""The traced graph, executed by ONNX's reference evaluator, computes what the eager model computes.

Covers: dense, MoE, MoE with dense layers among them
Reference: ONNX's reference evaluator with float64 operators written for the test
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy_evaluator
import onnx_ir as ir
import pytest
import torch
from steps import Paging, schedule
from twins import DENSE, MIXED, MOE, TRACED_CONTEXT, UNTIED, ours, traced, twin

from qwen3_graphs.architecture import YarnScaling
from qwen3_graphs.model import Batch
from qwen3_graphs.rope import rope_tables

CASES = {
    "dense": (DENSE, "logits"),
    "untied": (UNTIED, "logits"),
    "moe": (MOE, "logits"),
    "mixed": (MIXED, "logits"),
    "moe-not-normalized": (dataclasses.replace(MOE, norm_topk_prob=False, num_key_value_heads=4), "logits"),
    "yarn": (dataclasses.replace(DENSE, yarn=YarnScaling(4.0, 16)), "logits"),
    "embedding-model": (DENSE, "hidden"),
}


@pytest.mark.parametrize("case", CASES)
def test_graph_computes_what_the_eager_model_computes(case):
    (architecture, output), rng = CASES[case], np.random.default_rng(len(case))
    _, weights = twin(architecture, 17)
    model = ours(architecture, weights, TRACED_CONTEXT, output)
    graph = ir.to_proto(traced(architecture, output))
    cos, sin = rope_tables(architecture, TRACED_CONTEXT)
    arrays = {name: weight.numpy() for name, weight in weights.items()} | {"rope.cos": cos, "rope.sin": sin}

    lengths = [11, 1, 20]
    sequences = [rng.integers(0, architecture.vocab_size, length) for length in lengths]
    paging = Paging.shuffled(lengths, 4, rng)
    shape = (paging.num_blocks, 2, architecture.num_key_value_heads, 4, architecture.head_dim)
    caches = [rng.standard_normal(shape).astype(np.float32) for _ in range(architecture.num_hidden_layers)]
    for step in schedule(sequences, paging, rng, largest_chunk=8):
        inputs = [getattr(step, field.name) for field in dataclasses.fields(step)[:5]]
        names = [value.name for value in graph.graph.input if not value.name.startswith("kv.")]
        feeds = dict(zip(names, inputs, strict=True)) | {f"kv.{i}": cache for i, cache in enumerate(caches)}
        found = numpy_evaluator.run(graph, feeds, arrays)
        ids, starts, context, table, rows = map(torch.from_numpy, inputs)
        with torch.no_grad():
            answer, new = model(ids, Batch(starts, context, table), rows, [torch.from_numpy(x) for x in caches])
        expected = {output: answer} | {f"kv_out.{i}": cache for i, cache in enumerate(new)}
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
        caches = [cache.numpy() for cache in new]
