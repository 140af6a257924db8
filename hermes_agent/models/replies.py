"""What a server sends back, in whatever fields, becomes the text of a Hermes turn, so that one parser reads it all.

Thoughts from a field of their own become a thinking block, the server's tool calls become ``<tool_call>`` blocks.
Neither can become markup that the server did not mean: text from such fields is broken up like any other data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from hermes_agent.errors import ModelError
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.segments import neutralise
from hermes_agent.models.native_calls import NativeCalls
from hermes_agent.reasoning import Mode
from hermes_agent.turn import FinishReason

__all__ = ["Reply"]

_HELD_CHARS = 64
_MOST_TOKENS = 10**12
_ECHO_CHARS = 8
"""A beginning that is no longer is like a token, which the model can write again."""
_HALF = re.compile("[\ud800-\udfff]")
_BROKEN_OFF = ("content_filter", "error", "abort", "network_error")


class Reply:
    """One reply, event by event.

    Args:
        dialect: Spells the thinking tags, and says what must not arise from data.
        mode: Whether thinking was asked for. If it was not, and thoughts are all that comes, they are the answer:
            reasoning parsers of servers take every turn without tags for a thought.
        fields: Where thoughts come back, preferred first.
        tools: Names that were offered, to mend a name that came twice.
        echo: What the server may say again before it writes on.
        inside: The reply is the inside of a thought that is open: neither opened nor closed here.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        mode: Mode = "off",
        fields: Sequence[str] = ("reasoning", "reasoning_content", "thinking"),
        tools: Collection[str] = (),
        echo: str = "",
        inside: bool = False,
    ) -> None:
        self.finish: FinishReason | None = None
        self.stopped_by: str | None = None
        self.input_tokens = self.output_tokens = self.reasoning_tokens = self.pieces = 0
        self.model = ""
        self.reasoning_field: str | None = None
        self._dialect, self._mode, self._fields, self._echo = dialect, mode, fields, echo
        self._inside = inside
        self._thought: list[str] = []
        self._held = ""
        self._thinking = self._spoke = False
        self._last = self._half = ""
        self._delta: Any = None
        self._repeats = 0
        self._calls = NativeCalls(tools, dialect)
        self._said: list[str] = []

    def feed(self, event: Mapping[str, Any]) -> str:
        """The text that an event adds to the turn.

        Raises:
            ModelError: The server says that it broke the reply off.
        """
        self._note_usage(event)
        text = ""
        for choice in event.get("choices") or ():
            if choice.get("index") or 0:
                continue
            delta: Any = choice.get("delta") or choice.get("message") or choice
            before = self.pieces
            text += self._thoughts(delta) + self._content(delta)
            self.pieces += self._calls.add(delta.get("tool_calls") or ())
            self.pieces += self._calls.add_legacy(delta.get("function_call") or {})
            if self.pieces > before:
                self._repeats += delta == self._delta
                self._delta = delta
            self._note_end(choice)
        return self._joined(text)

    def close(self) -> str:
        """What the end of the reply adds.

        Raises:
            ModelError: Pieces came twice.
        """
        self._check_repeats()
        return self._joined(self._end(), last=True)

    def _check_repeats(self) -> None:
        """A piece that came twice looks like a word that the model repeated; what the server counted tells them apart.

        Some servers cut tokens into smaller pieces, so a few pieces too many mean nothing: as many as a quarter, and
        all of them the same as the one before, do.
        """
        extra = self.pieces - self.output_tokens
        if self.output_tokens and self._repeats >= extra > 0 and extra * 4 >= self.pieces:
            raise ModelError(
                f"the server sent {self._repeats} of {self.pieces} pieces twice, for {self.output_tokens} tokens",
                hint="look at the server, and at proxies in between; no call of this turn was run",
            )

    def _joined(self, text: str, *, last: bool = False) -> str:
        """Halves of a character, which some servers cut, put together; one that stays alone is replaced."""
        if not self._half and (text.isascii() or not _HALF.search(text)):
            return text
        text, self._half = self._half + text, ""
        if not last and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _end(self) -> str:
        if self._inside:
            return self._release()
        if self._spoke or self._calls:
            before = "" if self._spoke else self._open_thought()
            text = before + self._close_thought() + self._calls_text()
        elif self._thought and self._mode != "on" and self.finish == "stop":
            said = "".join(self._thought)
            # Where thinking was off, the whole turn landed in the field; else it is a thought, and calls in it are not
            # meant: it may answer, but not act.
            text = said if self._mode == "off" else self._close_thought() + neutralise(said, self._dialect)
        else:
            text = self._open_thought() if self._mode == "off" and self._thought else ""
            text += self._close_thought() if self.finish == "stop" else self._release()
        return text

    def _note_usage(self, event: Mapping[str, Any]) -> None:
        self.model = event.get("model") or self.model
        usage = _mapping(event.get("usage"))
        self.input_tokens = _tokens(usage.get("prompt_tokens")) or self.input_tokens
        self.output_tokens = _tokens(usage.get("completion_tokens")) or self.output_tokens
        details = _mapping(usage.get("completion_tokens_details"))
        self.reasoning_tokens = _tokens(details.get("reasoning_tokens")) or self.reasoning_tokens

    def _note_end(self, choice: Mapping[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if not reason:
            return
        if reason in _BROKEN_OFF:
            raise ModelError(
                f"the server broke the reply off: finish_reason {reason!r}",
                hint="look at the server's log; a content filter is the provider's",
                raw=json.dumps(choice, default=str),
            )
        self.finish = "length" if reason in ("length", "max_tokens", "max_new_tokens") else "stop"
        stopped = choice.get("stop_reason", choice.get("matched_stop"))
        self.stopped_by = stopped if isinstance(stopped, str) else None

    def _thoughts(self, delta: Mapping[str, Any]) -> str:
        said = self._reasoning_in(delta)
        if not said:
            return ""
        self.pieces += 1
        if self._inside:
            return self._as_data(said)
        self._thought.append(said)
        if self._mode == "off" and not self._spoke:  # it may be the answer: only its end will tell
            return ""
        opening = "" if self._thinking else self._opening()
        return opening + self._as_data(said)

    def _reasoning_in(self, delta: Mapping[str, Any]) -> str:
        """The thought in a delta; another field than the usual one is listened to only where that one is not there.

        Several fields may say the same at once.
        """
        usual = self.reasoning_field
        if usual is not None and delta.get(usual) is not None:
            return _plain(delta[usual])
        for name in (*self._fields, "reasoning_details"):
            said = _plain(delta.get(name))
            if said:
                self.reasoning_field = usual or name
                return said
        return ""

    def _content(self, delta: Mapping[str, Any]) -> str:
        said = _plain(delta.get("text"))  # of raw completions, which repeat nothing unless asked to
        if not said:
            said = self._without_echo(_plain(delta.get("content")) or _plain(delta.get("refusal")))
        if not said:
            return ""
        self.pieces += 1
        if self._inside:
            return self._release() + said
        before = "" if self._spoke else self._open_thought()
        self._spoke, self._last = True, said[-1]
        self._said.append(said)
        return before + self._close_thought() + said

    def _without_echo(self, said: str) -> str:
        """A chat server may repeat the turn's beginning before it writes on; a short one the model may have meant."""
        if not said or not self._echo:
            return said
        echo, self._echo = self._echo, ""
        return said[len(echo) :] if len(echo) >= _ECHO_CHARS and said.startswith(echo) else said

    def _opening(self) -> str:
        self._thinking = True
        return self._dialect.think_open + "\n"

    def _open_thought(self) -> str:
        """The thoughts that were held back, as a block."""
        if self._mode != "off" or not self._thought or self._thinking:
            return ""
        return self._opening() + self._as_data("".join(self._thought))

    def _close_thought(self) -> str:
        if not self._thinking:
            return ""
        self._thinking = False
        return f"{self._release()}\n{self._dialect.think_close}\n"

    def _as_data(self, text: str) -> str:
        """``text`` without markup; what may be the beginning of markup waits."""
        text = self._held + text
        at = max(text.rfind("<"), text.rfind("["))
        waits = at >= 0 and len(text) - at <= _HELD_CHARS and not any(end in text[at:] for end in ">]")
        self._held = text[at:] if waits else ""
        return neutralise(text[:at] if waits else text, self._dialect)

    def _release(self) -> str:
        held, self._held = self._held, ""
        return neutralise(held, self._dialect)

    def _calls_text(self) -> str:
        written = self._calls.blocks("".join(self._said), cut=self.finish == "length")
        lead = "\n" if written and self._spoke and self._last != "\n" else ""
        return lead + "\n".join(written)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _tokens(value: object) -> int:
    """A count out of a number; 0 for whatever else a server sends, as no turn shall fail over what it cost."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_TOKENS:
        return 0
    return int(value)


def _plain(value: object) -> str:
    """Text out of a string, or out of a list of typed parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = cast("list[object]", value)
        return "".join(
            _plain(part.get("text") or part.get("thinking") or part.get("summary"))
            for part in cast("list[Mapping[str, object]]", [p for p in parts if isinstance(p, Mapping)])
        )
    return ""
