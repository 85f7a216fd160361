"""Print an answer as it comes, its thinking apart.

python examples/stream.py build/tiny-dense "What is 37+45?"
"""

import argparse
import sys

from qwen3_runtime import Engine, EngineError, Finished


def main() -> None:
    """Stream one answer: thinking to stderr, the answer to stdout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("question")
    parser.add_argument("--budget", type=int, default=256, help="tokens of thinking")
    arguments = parser.parse_args()
    thought = False
    with Engine.open(arguments.engine) as engine:
        for event in engine.stream(arguments.question, thinking_budget=arguments.budget):
            if isinstance(event, Finished):
                usage = event.completion.usage
                print(f"\n[{usage.completion_tokens} tokens, {event.completion.finish_reason}]", file=sys.stderr)
            else:
                if thought and event.kind == "answer":
                    print(file=sys.stderr, flush=True)  # a terminal shows both: the answer begins on its own line
                thought = event.kind == "reasoning"
                place = sys.stderr if thought else sys.stdout
                print(event.text, end="", file=place, flush=True)
    print()


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:  # whatever the runtime refuses, in one line
        sys.exit(f"error: {error}")
