"""A conversation: every answer joins the messages that the next question is asked with.

python examples/chat.py build/tiny-dense
"""

import argparse
import sys

from qwen3_runtime import Engine, EngineError


def main() -> None:
    """Answer each line of standard input until it ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("--temperature", type=float, help="0 takes the most likely token; default: the engine's")
    arguments = parser.parse_args()
    messages = []
    with Engine.open(arguments.engine) as engine:
        for line in sys.stdin:
            messages.append({"role": "user", "content": line.strip()})
            done = engine.chat(messages, temperature=arguments.temperature)
            messages.append({"role": "assistant", "content": done.answer})  # without its reasoning, as Qwen recommends
            print(done.answer, flush=True)


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:  # whatever the runtime refuses, in one line
        sys.exit(f"error: {error}")
