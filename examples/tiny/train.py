"""Train a tiny Qwen3 on one CPU core: `python examples/tiny/train.py dense` or `... moe`."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from checkpoint import load, save
from conversations import Example, Mix, Renderer, examples
from make_tokenizer import FOLDER as TOKENIZER
from model import Dimensions, Qwen3

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIANTS = {
    "dense": Dimensions(vocab_size=448),
    "moe": Dimensions(
        vocab_size=448,
        tie_word_embeddings=False,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=128,
    ),
}


@dataclass(frozen=True)
class Stage:
    """One cosine schedule over one mix of conversations, from what the stage before it wrote.

    Attributes:
        steps: batches by variant; a variant with none skips the stage.
        peak: highest learning rate.
        mix: what is learned.
    """

    steps: dict[str, int]
    peak: float
    mix: Mix


STAGES = (
    Stage({"dense": 3600, "moe": 2400}, 3e-3, Mix()),
    Stage({"dense": 1000, "moe": 0}, 1e-3, Mix(cut=0.3, think=0.2, direct=0.4, cut_within=24, short_direct=True)),
    Stage({"dense": 1200, "moe": 2400}, 1e-3, Mix(other=0.25, cut=0.25, think=0.25, direct=0.15, short_direct=True)),
)
"""First to think, then (dense only) to answer without all of it, then to decline what is no sum."""

BALANCE_WEIGHT = 0.01
POOL = 512
"""Examples drawn at a time and sorted by length, so that a batch has little padding."""


def batches(
    renderer: Renderer, rng: np.random.Generator, mix: Mix, tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Draw batches for ever, padded on the right.

    Args:
        renderer: the tokenizer and chat template.
        rng: the source of randomness.
        mix: which conversations.
        tokens: the most tokens of a batch, padding included.

    Yields:
        ids int64 [batch, length] and learned bool [batch, length].
    """
    supply = examples(renderer, rng, mix)
    while True:
        pool = sorted((next(supply) for _ in range(POOL)), key=lambda example: len(example.ids))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if (len(groups[-1]) + 1) * len(example.ids) > tokens:
                groups.append([])
            groups[-1].append(example)
        for place in rng.permutation(len(groups)):
            yield padded(groups[place], renderer.pad)


def padded(group: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack examples, the shorter ones padded on the right with `pad`, which is never learned."""
    shape = (len(group), max(len(example.ids) for example in group))
    ids, learned = torch.full(shape, pad), torch.zeros(shape, dtype=torch.bool)
    for row, example in enumerate(group):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        learned[row, : len(example.ids)] = torch.tensor(example.learned)
    return ids, learned


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over the first 3 % of the run, then a cosine down to 2 % of the peak."""
    if progress < 0.03:
        return peak * progress / 0.03
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - 0.03) / 0.97)))


def loss_of(model: Qwen3, ids: torch.Tensor, learned: torch.Tensor, live: int) -> torch.Tensor:
    """Mean cross-entropy (nats) of the learned tokens.

    Only the `live` first logits compete: the rows that pad the vocabulary matrix are never trained, as in the
    released checkpoints.
    """
    targets = learned[:, 1:].flatten().nonzero().squeeze(1)
    return F.cross_entropy(model(ids[:, :-1], targets)[:, :live], ids[:, 1:].flatten()[targets])


def adamw(model: Qwen3) -> torch.optim.AdamW:
    """AdamW that decays matrices, not norms and not the embedding, whose rows are rarely seen."""
    decayed = [weight for name, weight in model.named_parameters() if weight.dim() > 1 and "embed" not in name]
    exempt = [weight for name, weight in model.named_parameters() if weight.dim() == 1 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": exempt, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def train(variant: str, stage: int, folder: Path, options: argparse.Namespace) -> None:
    """Train one stage, the first from random weights, and write the checkpoint.

    Args:
        variant: key of `VARIANTS`.
        stage: index in `STAGES`.
        folder: the checkpoint; a later stage starts from the one that is there.
        options: the command line.
    """
    torch.manual_seed(options.seed)
    renderer = Renderer(TOKENIZER)
    live = renderer.tokenizer.get_vocab_size()
    dims, schedule = VARIANTS[variant], STAGES[stage]
    steps = schedule.steps[variant]
    model = Qwen3(dims)
    if stage > 0:
        load(model, folder)
    optimizer = adamw(model)
    print(f"stage {stage + 1}: {sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)
    supply = batches(renderer, np.random.default_rng(options.seed + stage), schedule.mix, options.tokens)
    log = folder / "training.jsonl"
    lines = log.read_text(encoding="utf-8") if stage > 0 else ""
    seen, recent, start = 0, [], time.monotonic()
    for step in range(1, steps + 1):
        ids, learned = next(supply)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step / steps, schedule.peak)
        loss = loss_of(model, ids, learned, live)
        balance = torch.zeros(())
        if dims.num_experts:
            balance = model.balance_loss((ids[:, :-1] != renderer.pad).flatten())
        (loss + BALANCE_WEIGHT * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += ids.numel()
        recent.append(loss.item())
        if step % options.log_every == 0 or step == steps:
            entry = {
                "stage": stage + 1,
                "step": step,
                "loss": round(sum(recent) / len(recent), 4),
                "balance": round(balance.item(), 3),
                "tokens": seen,
                "minutes": round((time.monotonic() - start) / 60, 2),
            }
            lines += json.dumps(entry) + "\n"
            recent = []
            print(json.dumps(entry), flush=True)
    save(model, dims, folder)
    log.write_text(lines, encoding="utf-8")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--output", type=Path, help="folder of the checkpoint; default examples/tiny/VARIANT")
    parser.add_argument("--from-stage", type=int, default=1, help="2 or 3 carries on from the checkpoint that is there")
    parser.add_argument("--tokens", type=int, default=2048, help="most tokens of a batch, padding included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.output or Path(__file__).parent / options.variant
    for stage in range(options.from_stage - 1, len(STAGES)):
        if STAGES[stage].steps[options.variant]:
            train(options.variant, stage, folder, options)


if __name__ == "__main__":
    main()
