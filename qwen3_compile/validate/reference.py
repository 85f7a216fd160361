"""A checkpoint in eager PyTorch, float32, one layer at a time: what every engine is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from qwen3_compile.checkpoint.weights import torch_weights
from qwen3_graphs import reference

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from qwen3_compile.checkpoint import Checkpoint
    from qwen3_graphs.architecture import Architecture
    from qwen3_graphs.model import Head


class Reference:
    """Eager PyTorch over a checkpoint that need not fit into memory.

    Only one layer's weights are resident at a time, in the type they are stored in. The head stays resident, in
    float32, once it has been asked for.
    """

    def __init__(self, checkpoint: Checkpoint, architecture: Architecture, output: Literal["logits", "hidden"]) -> None:
        self.output = output
        self.architecture = architecture
        self._load = torch_weights(checkpoint, architecture)
        self._head: Head | None = None

    def hidden_states(self, sequences: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Run every decoder layer over whole sequences, with full causal attention and no cache.

        Args:
            sequences: token ids int64 [n], n >= 1, of each sequence.

        Returns:
            For each sequence its hidden states float32 [n, hidden] after the last layer, before the final norm.
        """
        architecture, lengths = self.architecture, [ids.size for ids in sequences]
        query_start = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
        rope = reference.position_tables(architecture, max(lengths))
        x = reference.embed(architecture, self._load, torch.from_numpy(np.concatenate(sequences)))
        for index in range(architecture.num_hidden_layers):
            layer = reference.load_layer(architecture, index, self._load)
            x = reference.forward_layer(layer, x, query_start, rope)
        return [part.numpy() for part in torch.split(x, lengths)]

    def read_out(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Final norm and head: hidden states [R, H] -> logits float32 [R, vocab] (or normalized states [R, H])."""
        if self._head is None:
            self._head = reference.load_head(self.architecture, self._load, output=self.output).float()
        values: NDArray[np.float32] = reference.forward_head(self._head, torch.from_numpy(states)).numpy()
        return values

    def continue_greedily(
        self, sequences: Sequence[NDArray[np.int64]], counts: Sequence[int], *, vocabulary: int, stops: Collection[int]
    ) -> list[NDArray[np.int64]]:
        """Continue sequences greedily, all of them together; every token reads all layers again.

        Args:
            sequences: token ids int64 [n], n >= 1, of each sequence.
            counts: the most tokens to add to each.
            vocabulary: token ids below this can be chosen.
            stops: tokens that end a continuation; they are part of it.

        Returns:
            The added tokens int64 of each sequence, without the sequence itself.
        """
        added: list[list[int]] = [[] for _ in sequences]
        running = [number for number, count in enumerate(counts) if count > 0]
        while running:
            states = self.hidden_states(
                [np.concatenate([sequences[number], np.array(added[number], dtype=np.int64)]) for number in running]
            )
            logits = self.read_out(np.stack([rows[-1] for rows in states]))[:, :vocabulary]
            for number, token in zip(running, logits.argmax(axis=-1), strict=True):
                added[number].append(int(token))
            running = [
                number for number in running if len(added[number]) < counts[number] and added[number][-1] not in stops
            ]
        return [np.array(tokens, dtype=np.int64) for tokens in added]
