"""A budget for thoughts, kept token by token."""

from __future__ import annotations

import re

from hermes_agent.formats.tags import fold
from hermes_agent.models.base import Request

__all__ = ["ThoughtBudget", "thought_budget"]

# A full stop behind a digit may be the middle of a number.
_SENTENCE_ENDS = re.compile(r"(?:[!?\u2026\u3002\uff01\uff1f]|(?<!\d)\.)[\"')\]\u2019\u201d]*\s*\Z|\n\s*\Z")
_TAIL = 16


class ThoughtBudget:
    """Follows a turn into its thinking block, and says when the block has to end.

    Args:
        tokens: Most tokens in the block. In the last eighth of them, 32 at most, the end of a sentence ends it.
        tags: What opens and what closes the block.
        opened: The turn begins inside of it.

    Attributes:
        used: Tokens in the block so far, its closing tag included if the model wrote it.
        cut: The budget ended the block.
    """

    def __init__(self, tokens: int, tags: tuple[str, str], *, opened: bool = False) -> None:
        self.used = 0
        self.cut = False
        self._tokens = tokens
        self._margin = min(tokens // 8, 32)
        self._open, self._close = fold(tags[0]), fold(tags[1])
        self._closing = tags[1]
        self._inside: bool | None = True if opened else None
        self._tail = ""

    def push(self, text: str) -> bool:
        """Take note of what a token brought; whether the block has to end here."""
        if self._inside is False:
            return False
        self._tail += fold(text)
        if self._inside is None:
            began = self._tail.lstrip()
            if not began.startswith(self._open):
                self._inside = None if self._open.startswith(began) else False
                return False
            self._inside, self._tail = True, began[len(self._open) :]
            if not self._tail:
                return False
        self.used += 1
        if self._close in self._tail:
            self._inside = False
            return False
        self._tail = self._tail[-max(len(self._close) - 1, _TAIL) :]
        left = self._tokens - self.used
        return left <= 0 or (left <= self._margin and _SENTENCE_ENDS.search(self._tail) is not None)

    @property
    def closing(self) -> str:
        """What ends the block here."""
        return self._closing if self._tail.endswith("\n") else "\n" + self._closing

    def end(self) -> None:
        """The block was ended."""
        self._inside, self.cut = False, True


def thought_budget(request: Request, tags: tuple[str, str], limit: int) -> ThoughtBudget | None:
    """How long a turn may think: as the caller says, but no longer than leaves an eighth of the turn for the answer.

    Without the caller's word it is half of what may be written.

    Args:
        request: The turn.
        tags: What opens and what closes a thought.
        limit: Tokens that the turn may have.
    """
    opened = request.prefix.rfind(tags[0]) > request.prefix.rfind(tags[1])
    if request.reasoning.mode == "off" or (request.prefix and not opened):
        return None
    asked = request.reasoning.max_tokens
    tokens = max(limit // 2, 1) if asked is None else min(asked, max(limit - limit // 8 - 1, 1))
    return ThoughtBudget(tokens, tags, opened=opened)
