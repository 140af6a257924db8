"""Patterns of ``re`` as automata: the texts they match as a whole, and those they are found in."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from hermes_agent.formats.automata import EVERY, Automaton, Ranges, TooLargeError, explored, join, meet, others

__all__ = ["searched", "whole"]

_MOST_STEPS = 20_000

_PARSER: Final = importlib.import_module("re._parser")
"""How ``re`` itself reads a pattern: nothing else reads every pattern as it does."""

_ESCAPED = re.compile(r"\\x\{([0-9a-f]+)\}")


@lru_cache(maxsize=512)
def whole(pattern: str) -> Automaton:
    """The texts that a pattern of ``re``, or one spelled by `python_regex.spell_for_engine`, matches as a whole.

    Raises:
        TooLargeError: It takes too many states, or holds what no automaton can say.
    """
    return _Steps(pattern).automaton(search=False)


@lru_cache(maxsize=512)
def searched(pattern: str) -> Automaton:
    """The texts that a pattern of ``re`` is found in; ``$`` is their very end.

    Raises:
        TooLargeError: It takes too many states, or holds what no automaton can say.
    """
    return _Steps(pattern).automaton(search=True)


class _Steps:
    """A pattern as steps from state to state: over a character, or for nothing, at the beginning or the end only."""

    def __init__(self, pattern: str) -> None:
        self.over: list[list[tuple[Ranges, int]]] = []
        self.free: list[list[int]] = []
        self.at_begin: list[list[int]] = []
        self.at_end: list[list[int]] = []
        tree = _PARSER.parse(_ESCAPED.sub(lambda found: f"\\U{int(found[1], 16):08x}", pattern))
        if tree.state.flags & (re.IGNORECASE | re.MULTILINE | re.LOCALE):
            raise TooLargeError("its flags change what it matches")
        self.tree = tree
        self.sets: dict[tuple[str, int, bool], Ranges] = {}
        self.dotall = bool(tree.state.flags & re.DOTALL)
        self.first = self.state()
        self.last = self.sequence(tree, self.first)

    def state(self) -> int:
        if len(self.over) >= _MOST_STEPS:
            raise TooLargeError(f"more than {_MOST_STEPS} steps are needed")
        for steps in (self.over, self.free, self.at_begin, self.at_end):
            steps.append([])
        return len(self.over) - 1

    def sequence(self, items: Any, at: int) -> int:
        for op, value in items:
            at = self.item(str(op), value, at)
        return at

    def item(self, op: str, value: Any, at: int) -> int:
        match op:
            case "BRANCH":
                return self.branch(value[1], at)
            case "SUBPATTERN":
                return self.group(value, at)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = value
                return self.repeat(int(least), None if str(most) == "MAXREPEAT" else int(most), inner, at)
            case "AT":
                return self.anchor(str(value), at)
            case _:
                to = self.state()
                key = (op, id(value), self.dotall)  # the tree is kept, and with it what it holds
                if key not in self.sets:
                    self.sets[key] = _set(op, value, self.dotall)
                self.over[at].append((self.sets[key], to))
                return to

    def branch(self, options: Any, at: int) -> int:
        to = self.state()
        for option in options:
            begin = self.state()
            self.free[at].append(begin)
            self.free[self.sequence(option, begin)].append(to)
        return to

    def group(self, value: Any, at: int) -> int:
        _, on, off, inner = value
        if (on | off) & (re.IGNORECASE | re.MULTILINE | re.LOCALE):
            raise TooLargeError("flags change what a part of it matches")
        before = self.dotall
        self.dotall = bool((before or on & re.DOTALL) and not off & re.DOTALL)
        to = self.sequence(inner, at)
        self.dotall = before
        return to

    def repeat(self, least: int, most: int | None, inner: Any, at: int) -> int:
        for _ in range(least):
            at = self.sequence(inner, at)
        if most is None:
            begin, to = self.state(), self.state()
            self.free[at].append(begin)
            self.free[begin].append(to)
            self.free[self.sequence(inner, begin)].append(begin)
            return to
        to = self.state()
        for _ in range(most - least):
            self.free[at].append(to)
            begin = self.state()
            self.free[at].append(begin)
            at = self.sequence(inner, begin)
        self.free[at].append(to)
        return to

    def anchor(self, kind: str, at: int) -> int:
        to = self.state()
        if kind in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            self.at_begin[at].append(to)
        elif kind in ("AT_END", "AT_END_STRING"):
            self.at_end[at].append(to)
        else:
            raise TooLargeError("it looks at the characters around a place")
        return to

    def closed(self, states: Iterable[int], *more: list[list[int]]) -> frozenset[int]:
        """These states, and those that are reached for nothing."""
        seen = set(states)
        queue = [*seen]
        for state in queue:
            for to in itertools.chain(self.free[state], *(steps[state] for steps in more)):
                if to not in seen:
                    seen.add(to)
                    queue.append(to)
        return frozenset(seen)

    def automaton(self, *, search: bool) -> Automaton:
        first = self.first
        if search:
            first, loop = self.state(), self.state()
            self.free[first].append(self.first)
            self.over[first].append((EVERY, loop))
            self.over[loop].append((EVERY, loop))
            self.free[loop].append(self.first)
            self.over[self.last].append((EVERY, self.last))
        # Behind the first character nothing is at the beginning any more; that state is never come back to.
        return explored(
            self.closed([first], self.at_begin),
            self.leads,
            lambda states: self.last in self.closed(states, self.at_end),
        )

    def leads(self, states: frozenset[int]) -> Iterable[tuple[Ranges, frozenset[int]]]:
        steps = [step for state in states for step in self.over[state]]
        edges = sorted({edge for ranges, _ in steps for low, high in ranges for edge in (low, high + 1)})
        grouped: dict[frozenset[int], list[tuple[int, int]]] = {}
        starts: dict[int, list[int]] = {}
        stops: dict[int, list[int]] = {}
        for number, (ranges, _) in enumerate(steps):
            for low, high in ranges:
                starts.setdefault(low, []).append(number)
                stops.setdefault(high + 1, []).append(number)
        active: set[int] = set()
        for edge, following in itertools.pairwise(edges):
            active.difference_update(stops.get(edge, ()))
            active.update(starts.get(edge, ()))
            if active:
                to = frozenset(steps[number][1] for number in active)
                grouped.setdefault(to, []).append((edge, following - 1))
        for to, runs in grouped.items():
            yield join(runs), self.closed(to)


def _set(op: str, value: Any, dotall: bool) -> Ranges:
    """The characters that one item of a pattern stands for."""
    match op:
        case "LITERAL":
            return ((value, value),)
        case "NOT_LITERAL":
            return others([((value, value),)])
        case "ANY":
            return EVERY if dotall else others([((10, 10),)])
        case "IN":
            negated = str(value[0][0]) == "NEGATE"
            named = ((str(kind), at) for kind, at in value[negated:])
            taken = join(*(_RANGES[kind](at) if kind in _RANGES else _refused(kind) for kind, at in named))
            return others([taken]) if negated else meet(taken, EVERY)
        case _:
            return _refused(op)


_RANGES: Mapping[str, Callable[[Any], Ranges]] = {
    "LITERAL": lambda code: ((code, code),),
    "RANGE": lambda pair: (tuple(pair),),
}


def _refused(what: str) -> Ranges:
    raise TooLargeError(f"no automaton can say its {what.lower().replace('_', ' ')}")
