"""GBNF's parts: rules by name, strings and classes as both llama.cpp and xgrammar spell them, repeats, automata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import isqrt

from hermes_agent.formats.automata import EVERY, Automaton, Ranges, meet, others

__all__ = ["Rules", "class_of", "json_class", "quoted"]

_PLAIN = frozenset(" !#$%&'()*+,./:;<=>@_`{|}~?")
"""What means nothing but itself inside of a class, besides letters and digits."""

_SPECIAL: Ranges = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))
"""What is escaped in JSON as `hermes_agent.formats.wire.dump_json` writes it."""

_ONE_RULE = 128
"""Repeats up to here are written as they are. llama.cpp makes a rule of each step, and refuses 2,000 of them."""


def quoted(text: str) -> str:
    """A literal. Both engines read these escapes."""
    return '"' + "".join(_in_string(char) for char in text) + '"'


def _in_string(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(char, char if char.isprintable() else _code(ord(char)))


def _code(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def class_of(ranges: Ranges) -> str:
    """One character of a set, which is not empty."""
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return quoted(chr(ranges[0][0]))
    rest = others([ranges])
    return f"[{_spelled(ranges)}]" if not rest or len(rest) > len(ranges) else f"[^{_spelled(rest)}]"


def _spelled(ranges: Ranges) -> str:
    return "".join(_in_class(low) if low == high else f"{_in_class(low)}-{_in_class(high)}" for low, high in ranges)


def _in_class(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and (char.isalnum() or char in _PLAIN) else _code(code)


def json_class(ranges: Ranges) -> str:
    """One character of a set, as it is written inside of a JSON string."""
    if ranges == EVERY:
        return "char"
    plain = meet(ranges, others([_SPECIAL]))
    options = [class_of(plain)] if plain else []
    if meet(_SPECIAL, ranges) == _SPECIAL:
        options.append("escape")
    else:
        options += [
            quoted(json.dumps(chr(code))[1:-1] if code != 0x7F else "\\u007f")
            for low, high in meet(ranges, _SPECIAL)
            for code in range(low, high + 1)
        ]
    return options[0] if len(options) == 1 else f"( {' | '.join(options)} )"


_LONGEST_SET = 60


class Rules:
    """Rules under names of their own; equal ones are kept once.

    Attributes:
        bodies: The right side of each rule, by name.
    """

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._automata: dict[tuple[Automaton, bool], str] = {}

    def text(self) -> str:
        """The rules, one a line."""
        return "".join(f"{name} ::= {body}\n" for name, body in self.bodies.items())

    def new_name(self, kind: str) -> str:
        """A name that no rule has; its rule is owed."""
        name = f"{kind}-{len(self.bodies)}"
        self.bodies[name] = ""
        return name

    def add(self, kind: str, body: str) -> str:
        """The name of the rule with this body."""
        if body not in self._names:
            self._names[body] = name = self.new_name(kind)
            self.bodies[name] = body
        return self._names[body]

    def repeat(self, item: str, least: int, most: int | None) -> str:
        """So many of one item, which is a name or stands in brackets; ``None`` is without bound."""
        fixed = self._times(item, least)
        if most is None:
            return f"{fixed} {item}*".lstrip()
        return f"{fixed} {self._up_to(item, most - least)}".strip()

    def _times(self, item: str, count: int) -> str:
        if count <= _ONE_RULE:
            return "" if not count else item if count == 1 else f"{item}{{{count}}}"
        size = isqrt(count)
        many, rest = divmod(count, size)
        return (
            f"{self.repeat(self.add('many', self._times(item, size)), many, many)} {self._times(item, rest)}".rstrip()
        )

    def _up_to(self, item: str, count: int) -> str:
        """None up to so many, in blocks: a chain as long as the count would cost as many rules."""
        if count <= _ONE_RULE:
            return "" if not count else f"{item}?" if count == 1 else f"{item}{{0,{count}}}"
        size = isqrt(count) + 1
        many, rest = divmod(count, size)
        block = self.add("many", self._times(item, size))
        some = f"{self._up_to(block, many - 1)} {self._up_to(item, size - 1)}".lstrip()
        return f"( {some} | {self._times(block, many)} {self._up_to(item, rest)} )"

    def automaton(self, kind: str, automaton: Automaton, *, in_json: bool = False) -> str:
        """The name of a rule for the texts of an automaton, which holds at least one.

        Args:
            kind: Names the rules.
            automaton: One rule is made for each state in which ways part.
            in_json: The texts stand inside of a JSON string, and are spelled so.
        """
        key = (automaton, in_json)
        if key not in self._automata:
            states = _States(automaton, lambda ranges: self._set(json_class(ranges) if in_json else class_of(ranges)))
            names = {state: self.new_name(kind) for state in states.own}
            for state, name in names.items():
                self.bodies[name] = states.body(state, names)
            self._automata[key] = names[0]
        return self._automata[key]

    def _set(self, spelled: str) -> str:
        """A set of characters; a long one gets a rule, as it may be needed in many states."""
        return spelled if len(spelled) <= _LONGEST_SET else self.add("set", spelled)


class _States:
    """An automaton, of which chains of states are written in one go."""

    def __init__(self, automaton: Automaton, spell: Callable[[Ranges], str]) -> None:
        self._at = automaton
        self._spell = spell
        ways: dict[int, int] = {}
        for moves in automaton.moves:
            for _, to in moves:
                ways[to] = ways.get(to, 0) + 1
        chained = {
            state
            for state, moves in enumerate(automaton.moves)
            if state and (not moves or (len(moves) == 1 and ways.get(state) == 1 and state not in automaton.ends))
        }
        self.own = [state for state in range(len(automaton.moves)) if state not in chained]

    def body(self, state: int, names: dict[int, str]) -> str:
        options = [" ".join(self._way(ranges, to, names)) for ranges, to in self._at.moves[state]]
        if state in self._at.ends:
            options.append('""')
        return " | ".join(options)

    def _way(self, ranges: Ranges, to: int, names: dict[int, str]) -> Iterable[str]:
        parts = [self._spell(ranges)]
        while to not in names and self._at.moves[to]:
            ranges, to = self._at.moves[to][0]
            parts.append(self._spell(ranges))
        joined: list[str] = []
        for part in parts:
            if joined and part[0] == joined[-1][0] == '"':
                joined[-1] = joined[-1][:-1] + part[1:]
            else:
                joined.append(part)
        return [*joined, names[to]] if to in names else joined
