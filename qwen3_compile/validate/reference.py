"""The model in eager PyTorch, float32, one layer at a time: what every engine is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from qwen3_graphs.model import Batch, DecoderLayer, Embedding, Head, Rope
from qwen3_graphs.names import EMBEDDING, head_name, layer_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from qwen3_compile.checkpoint import Checkpoint
    from qwen3_graphs.architecture import Architecture


class Reference:
    """Eager PyTorch over a checkpoint that need not fit into memory.

    Only one layer's weights are resident at a time, in the type they are stored in; each matrix is widened to
    float32 where it is used. The head stays resident, in float32, once it has been asked for.
    """

    def __init__(self, checkpoint: Checkpoint, architecture: Architecture, output: Literal["logits", "hidden"]) -> None:
        self.output = output
        self._checkpoint = checkpoint
        self._architecture = architecture
        self._head: nn.Module | None = None

    def hidden_states(self, sequences: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Run every decoder layer over whole sequences, with full causal attention and no cache.

        Args:
            sequences: token ids int64 [n], n >= 1, of each sequence.

        Returns:
            For each sequence its hidden states float32 [n, hidden] after the last layer, before the final norm.
        """
        architecture = self._architecture
        lengths = [ids.size for ids in sequences]
        batch = Batch(
            query_start=torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32),
            context_len=torch.zeros(len(lengths), dtype=torch.int32),
            block_table=torch.arange(len(lengths), dtype=torch.int32)[:, None],
        )
        rope = Rope(architecture, max(lengths))
        # Every layer writes the same cache: nothing but the layer itself reads it.
        cache = torch.zeros(len(lengths), 2, architecture.num_key_value_heads, max(lengths), architecture.head_dim)
        with torch.no_grad():
            embedding = self._loaded(lambda: Embedding(architecture), lambda _: EMBEDDING)
            # The embedding's rows are few: only what was looked up is widened.
            x: Tensor = embedding(torch.from_numpy(np.concatenate(sequences))).float()
            del embedding
            for index in range(architecture.num_hidden_layers):
                layer = self._loaded(lambda: DecoderLayer(architecture), layer_prefix(index).__add__)
                x, _ = layer(x, (rope.cos, rope.sin), cache, batch)
        return [part.numpy() for part in torch.split(x, lengths)]

    def read_out(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Final norm and head: hidden states [R, H] -> logits float32 [R, vocab] (or normalised states [R, H])."""
        if self._head is None:
            head = self._loaded(
                lambda: Head(self._architecture, self.output), lambda name: head_name(self._architecture, name)
            )
            self._head = head.float()
        with torch.no_grad():
            rows = torch.arange(len(states), dtype=torch.int32)
            values: NDArray[np.float32] = self._head(torch.from_numpy(states), rows).numpy()
        return values

    def _loaded(self, make: Callable[[], nn.Module], source: Callable[[str], str]) -> Any:  # noqa: ANN401 - a module
        """Make a module without memory and give each parameter the checkpoint's tensor of the name `source` maps to."""
        with torch.device("meta"):
            module = make()
        weights = {name: self._parameter(source(name)) for name, _ in module.named_parameters()}
        module.load_state_dict(weights, assign=True, strict=True)
        return module

    def _parameter(self, name: str) -> Tensor:
        if ".mlp.experts." not in name:
            return to_torch(self._checkpoint.read(name))
        # The model stacks what checkpoints name one by one.
        before, after = name.split(".mlp.experts.")
        experts = (f"{before}.mlp.experts.{index}.{after}" for index in range(self._architecture.num_experts))
        return torch.stack([to_torch(self._checkpoint.read(expert)) for expert in experts])


def to_torch(array: NDArray[Any]) -> Tensor:
    """A tensor of the array's own type and shape; bfloat16 passes as its bits, which numpy's ml_dtypes shares."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array.view(np.uint16))).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
