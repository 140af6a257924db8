"""Puts the text of a turn's grammar together as GBNF, from the pieces in ``grammars/turn.gbnf``.

llama.cpp reads it, and xgrammar reads it as EBNF: what the two spell differently is not used. It says what the Lark
form says, less what is listed in its warnings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from hermes_agent.formats.automata import Automaton
from hermes_agent.formats.lark import Parts, Tags, thought_end
from hermes_agent.formats.patterns import searched, whole
from hermes_agent.formats.rules import Rules, quoted
from hermes_agent.formats.tags import FORBIDDEN_IN_TEXT, TOOL_CALL_OPEN, any_of
from hermes_agent.formats.wire import dump_json
from hermes_agent.python_regex import spell_for_engine

if TYPE_CHECKING:
    from hermes_agent.formats.schema import Prepared
    from hermes_agent.formats.shapes.nodes import Shape

__all__ = ["answer", "compose", "value"]

_PLACEHOLDER: Final = re.compile(r"\{\{([A-Z_]+)\}\}")
_ARGUMENTS: Final = '"arguments": '
_EVERYTHING: Final = "(?s:.*)"
_BLANK: Final = r"[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""What ``str.strip`` takes for white space."""


@cache
def _pieces() -> Mapping[str, str]:
    text = files("hermes_agent.grammars").joinpath("turn.gbnf").read_text(encoding="utf-8")
    _, *blocks = re.split(r"(?m)^# @([\w-]+)\n", text)
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


@lru_cache(maxsize=256)
def compose(turn: Parts, tags: Tags) -> tuple[str, tuple[str, ...]]:
    """The grammar of a turn as GBNF, and what it does not say.

    Args:
        turn: What the turn is composed of.
        tags: Names the thinking tags and the stops; every tag is written as text.
    """
    return _Turn(turn, tags).written()


class _Turn:
    def __init__(self, turn: Parts, tags: Tags) -> None:
        self._turn = turn
        self._forbidden = any_of((*FORBIDDEN_IN_TEXT, *tags.thinking), tags.stops)
        self._thought_end = thought_end(turn, tags)
        self._open, self._close = tags.thinking
        self._rules = Rules()
        self._warnings: dict[str, None] = {}
        self._parts: list[str] = []

    def written(self) -> tuple[str, tuple[str, ...]]:
        turn = self._turn
        turns = self._answers() + self._calls()
        think = {"on": "think", "auto": "think?", "off": ""}[turn.reasoning]
        inline = ""
        if turn.inline and turn.thinks:
            inline = " | inline-call" if turn.place == "in_thought" else f" | {quoted(self._open)} inline-call"
        root = {
            "THINK": "thought" if turn.place == "in_thought" else think,
            "TURN": " | ".join(turns),
            "INLINE": inline,
        }
        self._thoughts()
        self._piece("json")
        parts = [_filled("turn", root), *self._parts]
        rules = self._rules.text()
        return "\n".join(parts) + "\n" + rules, tuple(self._warnings)

    def _piece(self, name: str, **values: str) -> None:
        self._parts.append(_filled(name, values))

    def _states(self, kind: str, automaton: Automaton) -> str:
        return self._rules.automaton(kind, automaton)

    @property
    def _gap(self) -> str:
        return "gap" if self._turn.follows_thought else ""

    def _answers(self) -> list[str]:
        turn = self._turn
        if not turn.final:
            return []
        if turn.answer is None:
            says = whole(f"{_EVERYTHING}[^{_BLANK[1:-1]}]{_EVERYTHING}")
            self._piece("text", STATES=self._states("saying", says - searched(self._forbidden)))
            return ["text"]
        answer = self._matching(turn.answer) if isinstance(turn.answer, str) else self._value(turn.answer)
        self._piece("typed", GAP=self._gap, ANSWER=answer)
        return ["typed"]

    def _matching(self, pattern: str) -> str:
        """The rule of a regular expression."""
        found = whole(spell_for_engine(pattern)) - searched(self._forbidden)
        if self._gap:  # behind a thinking block, white space would be the gap
            found &= whole(r"(?:[^ \t\r\n](?s:.*))?")
        return self._states("answer", found)

    def _calls(self) -> list[str]:
        turn = self._turn
        if not turn.calls:
            return []
        options = [
            f"{quoted(f'{dump_json(name)}, {_ARGUMENTS}')} {self._value(arguments, arguments=True)}"
            for name, arguments in turn.calls
        ]
        self._piece("call", CALLS=" | ".join(options))
        if turn.most_calls == 1:
            self._piece("one-call")
        else:
            further = None if turn.most_calls is None else turn.most_calls - 1
            self._piece("calls", MORE=self._rules.repeat('( "\\n<tool_call>" call )', 0, further))
        if turn.final and turn.answer is None:
            self._piece("text-then-calls", STATES=self._states("saying", _up_to(TOOL_CALL_OPEN, self._forbidden, 1)))
            return ["text-then-calls"]
        self._piece("calls-only", GAP=self._gap)
        return ["calls-only"]

    def _thoughts(self) -> None:
        turn = self._turn
        if self._gap:
            self._piece("gap")
        if not turn.thinks:
            return
        if turn.thought is not None:
            self._warnings["how long a thought may be is not enforced"] = None
        if turn.place == "start":
            self._piece("think", THINK_OPEN=quoted(self._open))
        self._piece("thought", STATES=self._states("thinking", _up_to(self._close, self._thought_end, 0)))
        if turn.inline:
            until = f"\n{TOOL_CALL_OPEN}"
            self._piece("inline", STATES=self._states("thinking", _up_to(until, self._thought_end, 1)))

    def _value(self, prepared: Prepared, *, arguments: bool = False) -> str:
        return _written(prepared, self._rules, self._warnings, arguments=arguments)

    def answer(self) -> tuple[str, tuple[str, ...]]:
        """See the function `answer`."""
        found = self._turn.answer
        assert found is not None, "the answer is free text"
        name = self._matching(found) if isinstance(found, str) else self._value(found)
        return _alone(name, self._rules), tuple(self._warnings)


@lru_cache(maxsize=1024)
def value(prepared: Prepared, *, arguments: bool = False) -> tuple[str, tuple[str, ...]]:
    """A grammar for the values of a schema alone, and what it does not say.

    Args:
        prepared: The schema.
        arguments: The values are arguments of a call, and so objects even if nothing else is known of them.
    """
    rules, warnings = Rules(), dict[str, None]()
    name = _written(prepared, rules, warnings, arguments=arguments)
    return _alone(name, rules), tuple(warnings)


def answer(turn: Parts, tags: Tags) -> tuple[str, tuple[str, ...]]:
    """A grammar for the typed answer of a turn alone, and what it does not say."""
    return _Turn(turn, tags).answer()


def _alone(name: str, rules: Rules) -> str:
    return f"root ::= {name}\n\n{_filled('json', {})}\n{rules.text()}"


def _written(prepared: Prepared, rules: Rules, warnings: dict[str, None], *, arguments: bool) -> str:
    """What stands for a value of a schema, whose rules are added."""
    from hermes_agent.formats.shapes.to_gbnf import ShapeRules

    warnings.update(dict.fromkeys(prepared.unread))
    shape = prepared.shape
    if shape is None:
        warnings["a schema could not be worked out: all but its outermost type is checked only afterwards"] = None
        shape = _outermost({"object"} if arguments else _types(prepared.text))
    return ShapeRules(rules, prepared.algebra, prepared.bounds, warnings).write(shape)


def _types(schema: str) -> Collection[str]:
    """The JSON types that a schema names; none if it names none."""
    named: str | list[str] = json.loads(schema).get("type", [])
    return [named] if isinstance(named, str) else named


def _outermost(types: Collection[str]) -> Shape:
    from hermes_agent.formats.shapes.nodes import ANYTHING, EVERY_TYPE, Number, union

    known = {**EVERY_TYPE, "integer": (Number(integer=True),)}
    options = [shape for name in types if name in known for shape in known[name]]
    return union(options) if options else ANYTHING


def _filled(name: str, values: Mapping[str, str]) -> str:
    lines = _PLACEHOLDER.sub(lambda found: values[found[1]], _pieces()[name]).strip().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


@lru_cache(maxsize=64)
def _up_to(tag: str, forbidden: str, behind: int) -> Automaton:
    """Texts that end with a tag, and hold nothing forbidden but that.

    Args:
        tag: What ends them.
        forbidden: A regular expression for what they may not hold, which the tag does.
        behind: How many characters of the tag stand behind what is forbidden in it.
    """
    return whole(f"{_EVERYTHING}{re.escape(tag)}") - searched(f"(?:{forbidden})(?s:.{{{behind + 1}}})")
