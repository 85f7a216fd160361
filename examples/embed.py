"""Rank texts by their similarity to a query, with an engine of an embedding model.

qwen3-compile build Qwen/Qwen3-Embedding-0.6B
python examples/embed.py build/qwen3-embedding-0.6b "a query" "one text" "another text"
"""

import argparse
import sys

from qwen3_runtime import Engine, EngineError

# Qwen3-Embedding is trained with an instruction before queries, and none before documents.
INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def main() -> None:
    """Print each text with its cosine similarity, the nearest first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("query")
    parser.add_argument("texts", nargs="+")
    arguments = parser.parse_args()
    with Engine.open(arguments.engine) as engine:
        query, *texts = engine.embed([f"{INSTRUCTION}{arguments.query}", *arguments.texts])
    similarities = [float(query @ text) for text in texts]  # rows have norm 1
    for similarity, text in sorted(zip(similarities, arguments.texts, strict=True), reverse=True):
        print(f"{similarity:.4f}  {text}")


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:  # whatever the runtime refuses, in one line
        sys.exit(f"error: {error}")
