"""The incremental parser of the Hermes format: the text of one assistant turn becomes a `Turn`.

What it holds to:

- Any chunking of a text gives the same turn. What was told as an event is never taken back; what may still
  turn out to be markup is kept until that is known.
- Tags are markup wherever they stand outside of JSON, in code fences too; inside the JSON of a call, or of a
  typed answer, they are ordinary characters. JSON in prose is never a call.
- The letters A to Z of a tag count in either case. Thinking tags work so; other tags not spelled in lower case
  are faults, like any other markup that looks like a call.
- A call ends where its JSON ends. What cannot be read is a fault with its span, never nothing, and never a
  call made up from what was left. A fault spoils its own block only.
- A thinking block opens with its tag at the beginning of a line (with blanks at most before it) or behind
  other markup, at the start of the turn or later; elsewhere the tag is text. The first closing tag ends it.
- A closing tag without an opening one, at the beginning of a line or of the turn, is dropped and noted. Text
  before it stays text, since it was told already; ``reasoning_open=True`` says that the prompt opened the
  block, and then everything up to the closing tag is reasoning.
- Calls in a thinking block are intentions: see ``reasoning_calls``. If the block is never closed, but a
  ``<tool_call>`` begins a line in it and nothing but calls follows, that tag closes it. Any other turn that
  ends inside its thinking has a ``truncated`` fault, whatever the finish reason.
- The first ``<tool_response>`` outside of JSON ends the turn, and so does a stop string of the dialect. In a
  thinking block it does so behind a call.

Repairs of the turn as a whole, in ``Turn.repairs``: ``stop_string``, ``tool_response`` (the turn was cut
there), ``orphan_think_close``, ``orphan_close`` (a closing tag was dropped), ``unclosed_think`` (a call closed
the thinking).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, get_args

from hermes_agent.errors import ConfigurationError
from hermes_agent.events import ParserEvent
from hermes_agent.formats.blocks import ReadingRules
from hermes_agent.formats.dialects import Dialect
from hermes_agent.formats.dialects import dialect as named_dialect
from hermes_agent.formats.markup import ToolLike, markup, read_tools
from hermes_agent.formats.repair import DEFAULT_REPAIRS, repair_names
from hermes_agent.formats.states import FinishReason, TurnReader
from hermes_agent.formats.tags import DEFAULT_STOPS, THINK_CLOSE, THINK_OPEN
from hermes_agent.output import Output
from hermes_agent.reasoning import ReasoningCalls
from hermes_agent.turn import Turn

__all__ = ["TurnParser", "parse"]


def parse(
    text: str,
    *,
    tools: Iterable[ToolLike] | None = None,
    dialect: str | Dialect | None = None,
    finish_reason: FinishReason | None = None,
    repairs: Collection[str] = DEFAULT_REPAIRS,
    reasoning_calls: ReasoningCalls = "ignore",
    reasoning_open: bool = False,
    output: Any = None,
) -> Turn:
    r"""Read a whole assistant turn.

    Args:
        text: The turn as the model wrote it, tags and all.
        tools: What was offered; this and all that follows as `TurnParser` says.
        dialect: Whose thinking tags and stop strings count.
        finish_reason: ``"length"`` if the model was cut off: a call without its closing tag is then truncated.
        repairs: Names of the repairs that may be used.
        reasoning_calls: ``"use"`` makes calls of those in a thinking block if there are none outside.
        reasoning_open: The prompt opened a thinking block.
        output: What the answer must be, as in ``Agent(output=...)``; free text without.

    Example:
        >>> turn = parse('One moment.\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')
        >>> turn.text, turn.tool_calls[0].name
        ('One moment.', 'now')
    """
    reader = _reader(tools, dialect, repairs, reasoning_calls, reasoning_open, output)
    reader.builder.heard = False
    reader.read(text)
    reader.end(finish_reason)
    return reader.builder.turn(text)


def _reader(
    tools: Iterable[ToolLike] | None,
    dialect: str | Dialect | None,
    repairs: Collection[str],
    reasoning_calls: ReasoningCalls,
    reasoning_open: bool,
    output: Any,
) -> TurnReader:
    if reasoning_calls not in get_args(ReasoningCalls):
        raise ConfigurationError(
            f"unknown policy reasoning_calls={reasoning_calls!r}", hint='use "ignore", "use" or "inline"'
        )
    if isinstance(dialect, str):
        dialect = named_dialect(dialect)
    names, schemas = read_tools(tools)
    using = ReadingRules(repair_names(repairs), names, schemas)
    answer = Output.text() if output is None else Output.of(output)
    plain = answer.kind == "text"
    recover = plain and bool(names) and bool(using.repairs & {"orphan_close", "bare_json"})
    think = THINK_OPEN, THINK_CLOSE
    if dialect and dialect.think_open:
        think = dialect.think_open, dialect.think_close
    reader = TurnReader(
        using,
        markup(tuple(dialect.stops) if dialect else DEFAULT_STOPS, think, recover),
        typed=answer.kind == "json",
        intentions=reasoning_calls,
    )
    if reasoning_open:
        reader.open_thought(think[1])
    return reader


class TurnParser:
    """Reads a turn in pieces of any size.

    Args:
        tools: What was offered: tools, their names, OpenAI-style descriptions or functions. A call of any
            other tool has an ``unknown_tool`` fault behind it. ``None`` means that this is not known: no such
            faults, and no recovery of calls without an opening tag.
        dialect: Whose thinking tags and stop strings count; ``None`` takes the common ones.
        repairs: Names of `hermes_agent.formats.repair.REPAIRS` that may be used.
        reasoning_calls: Calls in thinking blocks are always in ``Turn.reasoning_calls``. ``"use"`` makes
            them the turn's calls if there is nothing like a call outside. ``"inline"`` tells each as an
            `InlineCall` as soon as it is whole, and drops what the piece holds behind it: feed the result, as
            the model is to see it, and then what the model writes on.
        reasoning_open: The prompt ended with the opening tag of a thinking block.
        output: What the answer must be. A typed answer is JSON, in which tags are ordinary characters, and
            no call is recovered from bare JSON.
        quiet: Tell no events: pieces are kept, and read at one go at the end.

    Raises:
        ConfigurationError: An argument is not one of the above.

    Example:
        >>> parser = TurnParser(tools=["now"])
        >>> parser.feed("Hel")
        [TextDelta(text='Hel')]
        >>> parser.feed("lo<tool_ca")
        [TextDelta(text='lo')]
        >>> parser.finish().text
        'Hello<tool_ca'
    """

    def __init__(
        self,
        *,
        tools: Iterable[ToolLike] | None = None,
        dialect: str | Dialect | None = None,
        repairs: Collection[str] = DEFAULT_REPAIRS,
        reasoning_calls: ReasoningCalls = "ignore",
        reasoning_open: bool = False,
        output: Any = None,
        quiet: bool = False,
    ) -> None:
        self._reader = _reader(tools, dialect, repairs, reasoning_calls, reasoning_open, output)
        self._reader.builder.heard = not quiet
        self._quiet = quiet
        self._raw: list[str] = []
        self._turn: Turn | None = None

    def feed(self, chunk: str) -> list[ParserEvent]:
        """Read on. Returns what can be said now, in the order of the text.

        Raises:
            RuntimeError: The turn was finished before.
        """
        if self._turn is not None:
            raise RuntimeError("the turn is finished; a new turn needs a new parser")
        if self._quiet:
            self._raw.append(chunk)
            return []
        if chunk:
            self._reader.read(chunk)
            self._raw.append(chunk)
            if dropped := self._reader.dropped:
                self._raw = [self.raw[:-dropped]]
        return self._reader.builder.take_events()

    @property
    def raw(self) -> str:
        """Everything read so far."""
        return "".join(self._raw)

    def close(self, finish_reason: FinishReason | None = None) -> tuple[Turn, list[ParserEvent]]:
        """The turn ends here. Returns the turn, and the events that only its end brings."""
        if self._turn is None:
            if self._quiet:
                self._reader.read(self.raw)
            self._reader.end(finish_reason)
            self._turn = self._reader.builder.turn(self.raw)
        return self._turn, self._reader.builder.take_events()

    def finish(self, finish_reason: FinishReason | None = None) -> Turn:
        """The turn ends here; `close` tells the last events too."""
        return self.close(finish_reason)[0]
