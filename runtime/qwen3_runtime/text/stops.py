"""Stop strings, found while the text is still arriving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.arguments import shown
from qwen3_runtime.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_STOPS = 64
MAX_STOP_LENGTH = 1024


class StopStrings:
    """Ends a text before the first stop string that becomes complete.

    Only text that may still become a stop string is held back. Where two complete at the same character, the
    longer wins. The outcome does not depend on how the text is cut into pushes.

    Attributes:
        matched: the stop string that was found, or None.
    """

    def __init__(self, stops: str | Sequence[str] | None = ()) -> None:
        stops = checked_stops(stops)
        self._stops = tuple(sorted(set(stops), key=len, reverse=True))
        self._borders = tuple(_borders(stop) for stop in self._stops)
        self._progress = [0] * len(self._stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """The part of the text so far that can be shown now; nothing once a stop string was found."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return text
        buffered = self._held + text
        for end, character in enumerate(text, start=len(self._held) + 1):
            self._advance(character)
            if self.matched is not None:
                self._held = ""
                return buffered[: end - len(self.matched)]
        safe = len(buffered) - max(self._progress)
        self._held = buffered[safe:]
        return buffered[:safe]

    def flush(self) -> str:
        """The text still held back when the stream ends without a stop string."""
        rest, self._held = self._held, ""
        self._progress = [0] * len(self._stops)
        return rest

    def _advance(self, character: str) -> None:
        """One character through the Knuth-Morris-Pratt automaton of every stop string, the longest first."""
        for i, stop in enumerate(self._stops):
            length = self._progress[i]
            while length and stop[length] != character:
                length = self._borders[i][length - 1]
            if stop[length] == character:
                length += 1
            if length == len(stop):
                self.matched = stop
                return
            self._progress[i] = length


def checked_stops(stops: str | Sequence[str] | None) -> tuple[str, ...]:
    """Stop strings as a tuple; a bare string is one, None are none.

    Raises:
        RequestError: they are no list, too many, or one is not a text of bounded length.
    """
    if stops is None:
        return ()
    if isinstance(stops, str):
        stops = (stops,)
    if not isinstance(stops, list | tuple) or len(stops) > MAX_STOPS:
        raise RequestError.at("stop", f"expected a list of at most {MAX_STOPS} strings, found {shown(stops)}")
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= MAX_STOP_LENGTH:
            raise RequestError.at("stop", f"expected strings of 1 to {MAX_STOP_LENGTH} characters, found {shown(stop)}")
    return tuple(map(str.__str__, stops))


def _borders(pattern: str) -> tuple[int, ...]:
    """For each prefix of `pattern`, the length of its longest proper prefix that is also its suffix."""
    borders = [0]
    length = 0
    for character in pattern[1:]:
        while length and pattern[length] != character:
            length = borders[length - 1]
        if pattern[length] == character:
            length += 1
        borders.append(length)
    return tuple(borders)
