"""Opens a qwen3-compile engine and runs it: session, KV cache, chat template, decode loop with budgets."""

from qwen3_runtime.completion import Completion, Event, Finished, TextDelta, Timings, Usage
from qwen3_runtime.engine import Engine
from qwen3_runtime.errors import (
    DamagedEngineError,
    EngineClosedError,
    EngineError,
    OverloadedError,
    PromptTooLongError,
    RequestError,
    StepFailedError,
    UnknownOptionError,
    UnsupportedEngineError,
    UntrustedEngineError,
)
from qwen3_runtime.handle import Handle
from qwen3_runtime.request import Request
from qwen3_runtime.sampling import Sampling

__version__ = "0.1.0"

__all__ = [
    "Completion",
    "DamagedEngineError",
    "Engine",
    "EngineClosedError",
    "EngineError",
    "Event",
    "Finished",
    "Handle",
    "OverloadedError",
    "PromptTooLongError",
    "Request",
    "RequestError",
    "Sampling",
    "StepFailedError",
    "TextDelta",
    "Timings",
    "UnknownOptionError",
    "UnsupportedEngineError",
    "UntrustedEngineError",
    "Usage",
    "__version__",
]
