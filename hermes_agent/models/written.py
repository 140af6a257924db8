"""A turn as text that comes in pieces: what stands so far, what it cost, and where a tag begins or ends a part."""

from __future__ import annotations

from typing import Literal

from hermes_agent.formats.tags import fold
from hermes_agent.models.replies import Reply

__all__ = ["Beginning", "Behind", "Spent", "Stops", "Until", "Written"]


class Written:
    """The turn so far. Adding to it costs the same at any length.

    Args:
        prefix: Its beginning.
        tags: What opens and what closes a thought.

    Attributes:
        in_thought: Its last thinking tag opens a thought.
        opened: What was written behind the prefix begins with a thought.
    """

    def __init__(self, prefix: str, tags: tuple[str, str]) -> None:
        self.in_thought = self.opened = False
        self._tags = tags
        self._pieces: list[str] = []
        self._tail = self._head = ""
        self.add(prefix)
        self._head, self.opened = "", False

    @property
    def text(self) -> str:
        """All of it, prefix and all."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def add(self, text: str) -> None:
        """Take more text."""
        self._pieces.append(text)
        near = self._tail + text  # the tail is what may hold the beginning of a tag
        begun, ended = (near.rfind(tag) for tag in self._tags)
        if begun >= 0 or ended >= 0:
            self.in_thought = begun > ended
        self._tail = near[1 - max(map(len, self._tags)) :]
        if not self.opened and len(self._head) < (room := len(self._tags[0]) + 8):
            self._head = (self._head + text)[:room]
            self.opened = self._tags[0] in self._head


class Beginning:
    """Holds a turn back until it is clear whether it begins with a tag."""

    def __init__(self, tag: str) -> None:
        self.held = ""
        self._tag = tag

    def push(self, text: str) -> str | None:
        """What can be shown: all, once the tag is whole; ``None`` if the turn begins in another way."""
        self.held += text
        begun = self.held.lstrip()
        if begun.startswith(self._tag):
            shown, self.held = self.held, ""
            return shown
        return "" if self._tag.startswith(begun) else None


class Until:
    """Gives text up to a tag, which may come in pieces: some servers do not stop where they are told to.

    Attributes:
        reached: The tag was there. Nothing behind it is given.
    """

    def __init__(self, tag: str) -> None:
        self.reached = False
        self._tag = fold(tag)
        self._held = ""

    def push(self, text: str) -> str:
        """What can be given out now."""
        if self.reached:
            return ""
        held, self._held = self._held + text, ""
        if (at := fold(held).find(self._tag)) >= 0:
            self.reached = True
            return held[:at]
        keep = next((n for n in range(len(self._tag) - 1, 0, -1) if self._tag.startswith(fold(held[-n:]))), 0)
        keep = min(keep, len(held))
        ready, self._held = held[: len(held) - keep], held[len(held) - keep :]
        return ready

    def rest(self) -> str:
        """What was held back, as it might have become the tag."""
        held, self._held = self._held, ""
        return held


class Behind:
    """Gives what comes behind a thought, where text begins with one; other text as it is."""

    def __init__(self, tags: tuple[str, str]) -> None:
        self._open, self._close = fold(tags[0]), fold(tags[1])
        self._place: Literal["beginning", "thought", "gap", "answer"] = "beginning"
        self._held = ""

    def push(self, text: str) -> str:
        """What can be given out now."""
        self._held += text
        if self._place == "beginning":
            begun = self._held.lstrip()
            if fold(begun).startswith(self._open):
                self._place, self._held = "thought", begun[len(self._open) :]
            elif self._open.startswith(fold(begun)):
                return ""
            else:
                self._place = "answer"
        if self._place == "thought":
            at = fold(self._held).find(self._close)
            if at < 0:
                self._held = self._held[1 - len(self._close) :]
                return ""
            self._place, self._held = "gap", self._held[at + len(self._close) :]
        if self._place == "gap":
            self._held = self._held.lstrip()
            if not self._held:
                return ""
            self._place = "answer"
        ready, self._held = self._held, ""
        return ready

    def rest(self) -> str:
        """What was held back, as it might have become a tag."""
        return self._held if self._place == "beginning" else ""


class Stops:
    """Ends a turn at one of several stop strings, which may come in pieces.

    Attributes:
        reached: There was one. Nothing behind it is given.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.reached = False
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be given out now."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.reached, self._held = True, self._held[: min(found)]
            return ""
        longest = max(map(len, self._stops), default=1) - 1
        keep = next((n for n in range(min(longest, len(self._held)), 0, -1) if self._may_stop(self._held[-n:])), 0)
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return ready

    def rest(self) -> str:
        """What was held back."""
        return self._held

    def _may_stop(self, tail: str) -> bool:
        return any(stop.startswith(tail) for stop in self._stops)


class Spent:
    """What a turn has cost so far, over all its requests. Until the server tells, a piece counts as a token.

    Attributes:
        input: Tokens of the first prompt.
        output: Tokens written.
        thinking: Those of them in the thought.
    """

    def __init__(self) -> None:
        self.input = self.output = self.thinking = 0
        self._running = self._inside = self._thinks = self._may_think = False
        self._before = 0, 0
        self._thoughts = 0

    def begin(self, *, inside: bool, thinks: bool, may_think: bool) -> None:
        """A request begins.

        Args:
            inside: All of it is a thought.
            thinks: A thought is open.
            may_think: It may begin with a thought.
        """
        self._running, self._inside, self._thinks, self._may_think = True, inside, thinks, may_think
        self._before, self._thoughts = (self.output, self.thinking), 0

    def note(self, reply: Reply, *, in_thought: bool, opened: bool) -> None:
        """A piece of the turn was shown, while a request was running or between two.

        Args:
            reply: What comes back.
            in_thought: The turn stands inside of a thought now.
            opened: The turn begins with a thought.
        """
        if not self._running:
            return
        if in_thought and (opened or self._thinks):
            self._thoughts = reply.pieces
        self._add(reply.pieces, 0)
        self.input = self.input or reply.input_tokens

    def end(self, reply: Reply) -> None:
        """The request is over, or left."""
        self._running = False
        self._add(reply.output_tokens or reply.pieces, reply.reasoning_tokens)
        self.input = self.input or reply.input_tokens

    def _add(self, written: int, thoughts: int) -> None:
        output, thinking = self._before
        self.output = output + written
        if self._inside:
            self.thinking = thinking + written
        elif self._thinks or self._may_think:
            self.thinking = thinking + (thoughts or min(self._thoughts, written))
