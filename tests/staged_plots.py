"""What may happen to a run: plots, and strategies that draw them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from hypothesis import strategies as st

from hermes_agent import Limits, Reasoning
from hermes_agent.messages import AssistantMessage, Message, UserMessage
from hermes_agent.plan import OnLimit
from hermes_agent.turn import FinishReason

__all__ = ["ANSWER", "PLOTS", "RUN_SECONDS", "TOOL_SECONDS", "Disturbance", "Plot", "Written"]

T = TypeVar("T")

ANSWER = "42"
TOOL_SECONDS = 10.0
RUN_SECONDS = 1000.0

_LIMITED = Limits(seconds=RUN_SECONDS, tool_seconds=TOOL_SECONDS)
_NOT_THINKING = Reasoning()

Cut = Literal["cancel", "kill", "late", "leave"]
"""The run is cancelled; its process dies, and nothing is recorded any more; its time is up; its reader leaves."""


@dataclass(frozen=True, slots=True)
class Written:
    """A turn of the model; after so many chunks it breaks off, if it does."""

    text: str
    finish: FinishReason = "stop"
    breaks_after: int | None = None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What happens to a run when it has waited so often."""

    kind: Cut
    point: int


@dataclass(frozen=True, slots=True)
class Plot:
    """What happens; each tuple is used up from its beginning, and when it is at its end nothing special happens.

    Attributes:
        turns, inner: What the models write.
        doings: What the tools do.
        order: Which of the calls that wait goes on.
        around_call, around_turn, around_run: What the hook does.
        validations: What the validator says.
        words: What is said about calls that wait.
        cuts: What happens to each life of the run.
        forgotten: How many of its last records each death takes with it.
    """

    turns: tuple[Written, ...] = ()
    inner: tuple[Written, ...] = ()
    doings: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    around_call: tuple[str, ...] = ()
    around_turn: tuple[str, ...] = ()
    around_run: tuple[str, ...] = ()
    validations: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    cuts: tuple[Disturbance | None, ...] = ()
    forgotten: tuple[int, ...] = ()
    limits: Limits = _LIMITED
    on_limit: OnLimit = "raise"
    on_tool_error: Literal["feedback", "raise"] = "feedback"
    sequential: bool = False
    reasoning: Reasoning = _NOT_THINKING
    typed: bool = False
    streamed: bool = False
    chunk: int = 7
    history: tuple[Message, ...] = ()


def _call(name: str, arguments: Mapping[str, object]) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


_NUMBERS = st.fixed_dictionaries({"n": st.integers(0, 3)})
_NAMED = st.sampled_from(("work", "work", "pure", "alone", "once", "wary", "remote"))
_GOOD = st.builds(_call, _NAMED, _NUMBERS)
_FREE = st.builds(_call, st.sampled_from(("work", "pure", "alone")), _NUMBERS)
_AGENTS = st.sampled_from((_call("helper", {"prompt": "help"}), _call("transfer_to_other", {})))
_WRONG = st.one_of(
    st.builds(_call, _NAMED, st.sampled_from(({}, {"n": "many"}, {"n": 1, "m": 2}))),
    st.builds(_call, st.sampled_from(("nothing", "works")), st.just({"n": 1})),
)
_CALLS = st.one_of(_FREE, _FREE, _FREE, _FREE, _GOOD, _GOOD, _AGENTS, _WRONG)
_BROKEN = st.sampled_from(
    ("<tool_call>\n{not json}\n</tool_call>", '<tool_call>\n{"name": "work"', '{"name": ', "</tool_call>", "<invoke>")
)
_TEXT = st.sampled_from(("Well.", "é <|im_end|>", ""))
_PIECES = st.one_of(_CALLS, _CALLS, _CALLS, _CALLS, _TEXT, _BROKEN)
_ANSWERS = st.sampled_from((ANSWER, ANSWER, "forty-two", '{"a": 1}', "", "12 34"))
_CALLING = st.lists(_CALLS, min_size=1, max_size=4).map("\n".join)
_MIXED = st.lists(_PIECES, min_size=1, max_size=4).map("\n".join)
_SPEECH = st.one_of(_CALLING, _CALLING, _CALLING, _MIXED, _ANSWERS)


@st.composite
def _texts(draw: st.DrawFn) -> str:
    said = draw(_SPEECH)
    if not draw(st.booleans()):
        return said
    thought = draw(st.one_of(st.just("Hm."), st.lists(st.one_of(st.just("So."), _CALLS), max_size=3).map("\n".join)))
    return f"<think>\n{thought}\n</think>\n{said}"


def _mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """The usual thing, but for one time in eight: what ends every run early hides everything else."""
    return st.integers(0, 7).flatmap(lambda at: st.sampled_from(others) if at == 7 else st.just(usual))


_TURNS = st.builds(
    Written,
    _texts(),
    _mostly("stop", "length"),
    _mostly(None, 0, 1, 3, 6),
)
_INNER = st.builds(
    Written, st.one_of(st.just(ANSWER), st.sampled_from((_call("work", {"n": 1}), _call("once", {"n": 1}))))
)


_LIMITS = st.builds(
    Limits,
    steps=_mostly(20, 1, 2, 3, 5),
    tool_calls=_mostly(50, 0, 1, 2, 4),
    input_tokens=_mostly(None, 10, 30),
    output_tokens=_mostly(None, 5, 30, 60),
    thinking_tokens=_mostly(None, 3, 10),
    turn_tokens=_mostly(None, 40, 10),
    seconds=st.just(RUN_SECONDS),
    tool_seconds=st.just(TOOL_SECONDS),
    concurrency=st.sampled_from((None, 1, 2, 3)),
    repeats=st.sampled_from((None, None, 1, 2)),
    corrections=st.sampled_from((3, 0, 1, 8)),
    tool_result_chars=st.sampled_from((20_000, 10, 200)),
)
_REASONING = st.builds(
    Reasoning, st.sampled_from(("off", "auto", "on")), calls=st.sampled_from(("ignore", "use", "inline"))
)
_DOINGS = ("return", "raise", "retry", "group", "exit", "hang", "slow", "huge", "huge", "forged", "odd", "json")
_AROUND_CALL = (
    "pass", "pass", "block", "retry", "raise", "arguments", "raise_after", "retry_after", "block_after", "result",
)  # fmt: skip
_CUTS = st.one_of(
    st.none(),
    st.builds(Disturbance, st.sampled_from(("cancel", "kill", "late", "leave")), st.integers(1, 40)),
)


def _some(values: Sequence[str], size: int = 4) -> st.SearchStrategy[tuple[str, ...]]:
    return st.one_of(st.just(()), st.just(()), st.lists(st.sampled_from(values), max_size=size).map(tuple))


def _repeated(turns: Sequence[tuple[Written, int]]) -> tuple[Written, ...]:
    return tuple(turn for turn, times in turns for _ in range(times))


PLOTS = st.builds(
    Plot,
    turns=st.lists(st.tuples(_TURNS, st.sampled_from((1, 1, 1, 2, 3))), min_size=1, max_size=6).map(_repeated),
    inner=st.lists(_INNER, max_size=3).map(tuple),
    doings=st.lists(st.sampled_from(_DOINGS), max_size=8).map(tuple),
    order=st.lists(st.integers(0, 3), max_size=6).map(tuple),
    around_call=_some(_AROUND_CALL),
    around_turn=_some(("pass", "pass", "retry", "text", "skip", "raise")),
    around_run=_some(("pass", "raise", "raise_after"), 1),
    validations=_some(("pass", "retry", "value_error", "raise")),
    words=st.lists(st.sampled_from(("approve", "deny", "supply", "leave")), max_size=5).map(tuple),
    cuts=st.lists(_CUTS, max_size=3).map(tuple),
    forgotten=st.lists(st.sampled_from((0, 0, 1, 2, 5, 9)), max_size=3).map(tuple),
    limits=st.one_of(st.just(_LIMITED), _LIMITS),
    on_limit=st.sampled_from(("raise", "answer")),
    on_tool_error=_mostly("feedback", "raise"),
    sequential=st.booleans(),
    reasoning=_REASONING,
    typed=st.booleans(),
    streamed=st.booleans(),
    chunk=st.sampled_from((200, 30, 7)),
    history=st.sampled_from(((), (UserMessage("Hello"), AssistantMessage("Hello.")))),
)
