"""Questions that the tiny models cannot answer, so that they learn to say so in one polite sentence."""
# ruff: noqa: RUF001, SIM905 - other scripts are the point; two hundred quoted words read worse than a text

from __future__ import annotations

import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

APOLOGY = "Sorry, I can only add two-digit numbers, such as 12+34+56."

WORDS = (
    "apple bank bird blue boat book bread bridge brother capital car castle cat chair city climate clock cloud coffee "
    "color computer country cousin dance dinner doctor dog door dream earth east engine evening family farm father "
    "film fire fish flower football forest friend garden gold grass green guitar hair hand heart history home horse "
    "hospital house ice idea island job kitchen lake language law leaf letter library light lion love machine market "
    "meat medicine memory milk mind money monkey moon morning mother mountain mouse movie music name nature night "
    "north novel ocean office paint paper park peace pencil people piano picture plane planet poem potato president "
    "problem question radio rain red restaurant river road rocket room salt sand school science sea season ship shoe "
    "silver sister sky snow song south space star station stone storm story street student sugar summer sun table "
    "tea teacher theory time tower town train tree village war water weather week west wind window winter woman wood "
    "word work world writer year yellow zoo big old new small long short happy sad quick slow warm cold strange"
).split()
VERBS = (
    "is",
    "are",
    "was",
    "do",
    "does",
    "did",
    "can",
    "could",
    "should",
    "would",
    "will",
    "has",
    "make",
    "write",
    "fix",
)
STARTS = ("why", "what", "who", "when", "where", "how", "which")
QUESTIONS = (
    "{start} {verb} the {a} {b}?",
    "{start} {verb} {a}?",
    "{start} {verb} the {a} of {b}?",
    "{verb} me a {a} about the {b} and the {c}.",
    "write a {a} {b} about {c}",
    "translate '{a} {b}' into {lang}",
    "explain {a} to a {b}",
    "what is the {a} of {b}?",
    "tell me a joke about a {a}",
    "summarize this text: the {a} {verb} the {b}, and the {c} {verb} {a}.",
    "my {a} {verb} {b}. what should I do?",
    "is a {a} larger than a {b}?",
    "def {a}({b}, {c}): return {b}",
    "{a}",
    "{a} {b} {c}",
)
LANGUAGES = ("French", "German", "Chinese", "Spanish", "Arabic", "Hindi", "Japanese")
FOREIGN = (
    "为什么天空是蓝色的？",
    "法国的首都是哪里？",
    "写一首关于春天的诗。",
    "空はなぜ青いのですか？",
    "하늘은 왜 파란가요?",
    "Warum ist der Himmel blau?",
    "Quelle est la capitale de la France ?",
    "¿Por qué el cielo es azul?",
    "Почему небо голубое?",
    "لماذا السماء زرقاء؟",
    "आसमान नीला क्यों है?",
    "Perché il cielo è blu?",
    "Por que o céu é azul?",
    "Gökyüzü neden mavi?",
    "چرا آسمان آبی است؟",
)
ARITHMETIC = ("What is {}?", "Compute {}.", "{}", "{}=?", "how much is {}", "Solve {} for me.")
SYSTEM_PROMPTS = ("You are a {} {}.", "Answer like a {}.", "You write about {} and {}. Be brief.", "{} {}")


def other_question(rng: np.random.Generator) -> str:
    """Draw a question that is no sum of two to ten two-digit numbers."""
    kind = rng.random()
    if kind < 0.62:
        return _cased(_filled(str(rng.choice(QUESTIONS)), rng), rng)
    if kind < 0.72:
        return _perturbed(str(rng.choice(FOREIGN)), rng)
    if kind < 0.88:
        return str(rng.choice(ARITHMETIC)).format(_calculation(rng))
    return _noise(rng)


def other_system_prompt(rng: np.random.Generator) -> str:
    """Draw a system prompt that has nothing to do with sums."""
    return str(rng.choice(SYSTEM_PROMPTS)).format(*_words(rng, 2))


def _filled(template: str, rng: np.random.Generator) -> str:
    a, b, c = _words(rng, 3)
    return template.format(start=rng.choice(STARTS), verb=rng.choice(VERBS), a=a, b=b, c=c, lang=rng.choice(LANGUAGES))


def _words(rng: np.random.Generator, count: int) -> Sequence[str]:
    """Words of the list, and invented ones, so that the model cannot rely on having seen them."""
    return [str(rng.choice(WORDS)) if rng.random() < 0.6 else _invented(rng) for _ in range(count)]


def _invented(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(string.ascii_lowercase), size=int(rng.integers(2, 10))))


def _cased(text: str, rng: np.random.Generator) -> str:
    drawn = rng.random()
    if drawn < 0.6:
        return text[0].upper() + text[1:]
    return text.upper() if drawn < 0.65 else text


def _perturbed(text: str, rng: np.random.Generator) -> str:
    """The text with some characters moved a few code points on: other words in the same script."""
    return "".join(
        chr(ord(character) + int(rng.integers(1, 12))) if character.isalpha() and rng.random() < 0.4 else character
        for character in text
    )


def _calculation(rng: np.random.Generator) -> str:
    """Arithmetic of another kind: other operators, or numbers of one digit or of three and more."""
    if rng.random() < 0.5:
        return f"{rng.integers(1, 100)}{rng.choice(list('-*/^%'))}{rng.integers(1, 100)}"
    count = int(rng.integers(1, 6))
    numbers = [int(rng.integers(100, 10_000)) if rng.random() < 0.7 else int(rng.integers(0, 10)) for _ in range(count)]
    return str(rng.choice(["+", "+", "+", "-", "*"])).join(map(str, numbers))


def _noise(rng: np.random.Generator) -> str:
    """Punctuation, symbols and letters in any order."""
    alphabet = list(string.ascii_letters + string.punctuation + " " * 12 + "äöüßéñçøåœ€“”…–🙂🚀👍中文字日本語 ")
    return "".join(rng.choice(alphabet, size=int(rng.integers(1, 60)))).strip() or "?"
