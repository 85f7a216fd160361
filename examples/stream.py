"""Print an answer as it comes, its thinking apart.

python examples/stream.py build/tiny-dense "What is 37+45?"
"""

import argparse
import sys

from qwen3_runtime import Engine, Finished


def main() -> None:
    """Stream one answer: thinking to stderr, the answer to stdout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("question")
    parser.add_argument("--budget", type=int, default=256, help="tokens of thinking")
    arguments = parser.parse_args()
    with Engine.open(arguments.engine) as engine:
        for event in engine.stream(arguments.question, thinking_budget=arguments.budget):
            if isinstance(event, Finished):
                usage = event.completion.usage
                print(f"\n[{usage.completion_tokens} tokens, {event.completion.finish_reason}]", file=sys.stderr)
            else:
                place = sys.stderr if event.kind == "reasoning" else sys.stdout
                print(event.text, end="", file=place, flush=True)
    print()


if __name__ == "__main__":
    main()
