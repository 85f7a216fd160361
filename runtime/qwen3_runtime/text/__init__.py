"""Text in and out: tokenizer, chat template, streaming, stop strings, reasoning."""

from qwen3_runtime.text.reasoning import Delta, Part, ReasoningSplitter, ThinkingStart, soft_switch, thinking_start
from qwen3_runtime.text.reply import ReplyStream
from qwen3_runtime.text.stops import StopStrings
from qwen3_runtime.text.stream import StreamDecoder
from qwen3_runtime.text.template import ChatTemplate
from qwen3_runtime.text.tokenizer import Tokenizer

__all__ = [
    "ChatTemplate",
    "Delta",
    "Part",
    "ReasoningSplitter",
    "ReplyStream",
    "StopStrings",
    "StreamDecoder",
    "ThinkingStart",
    "Tokenizer",
    "soft_switch",
    "thinking_start",
]
