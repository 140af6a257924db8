"""Reading a turn in one piece and in many, and the laws that hold for all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from hermes_agent.events import CallCompleted, FaultFound, ParserEvent, ReasoningDelta, TextDelta
from hermes_agent.formats.parser import TurnParser, parse
from hermes_agent.turn import CallPart, Fault, TextPart, Turn


def stream(chunks: Sequence[str], finish_reason: Any = None, **options: Any) -> tuple[Turn, list[ParserEvent]]:
    """The turn and the events that these pieces give."""
    parser = TurnParser(**options)
    events: list[ParserEvent] = []
    for chunk in chunks:
        events += parser.feed(chunk)
    turn, last = parser.close(finish_reason)
    return turn, events + last


def chunkings(text: str, seed: int = 0, rounds: int = 6) -> Iterator[list[str]]:
    """Ways to cut a text: whole, by 1, 3 and 7 characters, and at random places."""
    yield [text]
    for size in (1, 3, 7):
        yield [text[i : i + size] for i in range(0, len(text), size)]
    draw = random.Random(seed)
    for _ in range(rounds):
        cuts = sorted(draw.choices(range(len(text) + 1), k=draw.randint(1, 12)))
        yield [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def check(text: str, turn: Turn, events: list[ParserEvent]) -> None:
    """The laws between a text, its turn and the events."""
    assert turn.raw == text
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == turn.text
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == (turn.reasoning or "")
    assert tuple(e.call for e in events if isinstance(e, CallCompleted)) == turn.tool_calls
    assert tuple(e.fault for e in events if isinstance(e, FaultFound)) == turn.faults
    for part in turn.parts:
        start, end = part.span
        match part:
            case TextPart():
                assert part.text == text[start:end]
            case Fault():
                assert part.raw == text[start:end]
            case CallPart():
                assert part.call.raw in text[start:end]


def read(text: str, finish_reason: Any = None, **options: Any) -> Turn:
    """The turn that a text gives, after making sure that every chunking gives it."""
    turn = parse(text, finish_reason=finish_reason, **options)
    for chunks in chunkings(text):
        streamed, events = stream(chunks, finish_reason, **options)
        assert streamed == turn, chunks
        check(text, turn, events)
    return turn
