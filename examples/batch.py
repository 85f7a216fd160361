"""Answer many questions together: one JSON line for each line of standard input, in the same order.

python examples/batch.py build/tiny-dense < questions.txt
"""

import argparse
import json
import sys

from qwen3_runtime import Engine, EngineError, Request


def main() -> None:
    """Run all requests, as many in a step as the engine allows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("--sequences", type=int, default=4, help="sequences in a step, at most the engine's max_batch")
    arguments = parser.parse_args()
    questions = [line.strip() for line in sys.stdin if line.strip()]
    with Engine.open(arguments.engine, max_sequences=arguments.sequences) as engine:
        requests = [Request(question, temperature=0, thinking_budget=128) for question in questions]
        for question, done in zip(questions, engine.generate(requests), strict=True):
            row = {"question": question, "answer": done.answer, "finish_reason": done.finish_reason}
            print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:  # whatever the runtime refuses, in one line
        sys.exit(f"error: {error}")
