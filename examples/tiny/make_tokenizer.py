"""Train the tiny tokenizer in the released format: `python examples/tiny/make_tokenizer.py RELEASED_TOKENIZER`.

RELEASED_TOKENIZER is a folder with the `tokenizer.json` and `tokenizer_config.json` of any Qwen3 chat model. Its
normalizer, pre-tokenizer, added tokens and chat template are kept; only the BPE vocabulary is trained anew, small.
The result is committed in `examples/tiny/tokenizer`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from conversations import CORPUS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

BPE_ENTRIES = 400
"""Bytes and merges, without the added tokens."""

FOLDER = Path(__file__).parent / "tokenizer"


def train(released: dict[str, Any]) -> dict[str, Any]:
    """Train a byte-level BPE on `CORPUS` under the released normalizer and pre-tokenizer.

    Args:
        released: the content of a released `tokenizer.json`.

    Returns:
        The content of a `tokenizer.json` whose added tokens follow its own BPE entries in the released order.
    """
    shell = {**released, "added_tokens": [], "model": {**released["model"], "vocab": {}, "merges": []}}
    tokenizer = Tokenizer.from_str(json.dumps(shell))
    tokenizer.model = models.BPE()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_ENTRIES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    entries = len(trained["vocab"])
    added = [{**token, "id": entries + place} for place, token in enumerate(released["added_tokens"])]
    model = {**released["model"], "vocab": trained["vocab"], "merges": trained["merges"]}
    return {**released, "added_tokens": added, "model": model}


def tokenizer_config(released: dict[str, Any], tokenizer: dict[str, Any], context: int) -> dict[str, Any]:
    """The released `tokenizer_config.json` with the tiny ids and context length (tokens)."""
    added = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in tokenizer["added_tokens"]}
    return {**released, "added_tokens_decoder": added, "model_max_length": context}


def main(released: Path) -> None:
    """Write `tokenizer/tokenizer.json` and `tokenizer/tokenizer_config.json` beside this file."""
    tokenizer = train(json.loads((released / "tokenizer.json").read_text(encoding="utf-8")))
    config = json.loads((released / "tokenizer_config.json").read_text(encoding="utf-8"))
    FOLDER.mkdir(exist_ok=True)
    contents = {"tokenizer.json": tokenizer, "tokenizer_config.json": tokenizer_config(config, tokenizer, 2048)}
    for name, content in contents.items():
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
