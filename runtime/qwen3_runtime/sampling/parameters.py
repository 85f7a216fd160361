"""The parameters of sampling: their ranges, their defaults, and those that the Qwen3 model cards recommend."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_runtime.arguments import integer, names_unknown_options, number

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 100),  # beyond, ordinary logits overflow or vanish
}
"""The smallest and the largest value of each float of `Sampling`; `top_p` is above its smallest."""

MAX_TOP_K = 2**31 - 1
MAX_SEED = 2**64 - 1


@names_unknown_options
@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. The defaults sample from the model's own distribution, unchanged.

    Attributes:
        temperature: 0 to 100; 0 is greedy.
        top_k: tokens to keep; 0 keeps all.
        top_p: probability mass to keep, above 0 and at most 1.
        min_p: smallest probability relative to the most probable token, 0 to 1.
        presence_penalty: -2 to 2, subtracted once from each token that was generated.
        frequency_penalty: -2 to 2, subtracted for each time that a token was generated.
        repetition_penalty: 0.01 to 100; above 1 makes tokens of prompt and generation less likely.
        seed: 0 to 2**64 - 1; None takes a new one from the operating system.

    Raises:
        RequestError: a value outside its range.
        UnknownOptionError: a name that is none of these.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        checked: dict[str, float | None] = {
            name: number(name, getattr(self, name), low, high, above_low=name == "top_p")
            for name, (low, high) in RANGES.items()
        }
        checked["top_k"] = integer("top_k", self.top_k, 0, MAX_TOP_K)
        checked["seed"] = None if self.seed is None else integer("seed", self.seed, 0, MAX_SEED)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether the choice is always the largest logit."""
        return self.temperature == 0


# The values that the Qwen3 model cards recommend for the two modes.
THINKING = Sampling(temperature=0.6, top_p=0.95, top_k=20)
NON_THINKING = Sampling(temperature=0.7, top_p=0.8, top_k=20)
