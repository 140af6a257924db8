"""Sets of texts as finite automata over code points, for grammars that know no regular expressions.

GBNF has neither complements nor intersections nor counted repeats of any size. What a grammar wants of a text,
patterns, lengths, forbidden markup, is therefore worked out here, and written out state by state.
"""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

__all__ = ["EVERY", "Automaton", "Ranges", "TooLargeError", "join", "meet", "others", "searched", "whole"]

Ranges: TypeAlias = "tuple[tuple[int, int], ...]"
"""First and last code point of each run, in order and apart."""

EVERY: Final[Ranges] = ((0, 0xD7FF), (0xE000, 0x10FFFF))
"""Every character a text may hold."""

_MOST_STATES = 4_000
_MOST_STEPS = 20_000


class TooLargeError(ValueError):
    """An automaton has more states than it is worth, or a pattern holds what no automaton can say."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """A deterministic automaton. It begins in state 0, and ends in any of ``ends``.

    Attributes:
        moves: For each state the sets of characters that lead on, which are apart, and where to.
        ends: The states in which a text may end.
    """

    moves: tuple[tuple[tuple[Ranges, int], ...], ...]
    ends: frozenset[int]

    def accepts(self, text: str) -> bool:
        """Whether a text is one of the set."""
        state: int | None = 0
        for char in text:
            state = self.step(state, ord(char))
            if state is None:
                return False
        return state in self.ends

    def step(self, state: int | None, code: int) -> int | None:
        """The state behind a character; ``None`` if no text goes on so."""
        if state is None:
            return None
        found = (to for ranges, to in self.moves[state] if any(low <= code <= high for low, high in ranges))
        return next(found, None)

    def pattern(self, longest: int) -> str:
        """A regular expression for the same texts; empty if it would be longer than so many characters."""
        ways: dict[tuple[int, int], str] = {}
        last = len(self.moves)
        for state, moves in enumerate(self.moves):
            for ranges, to in moves:
                ways[state, to] = _either(ways.get((state, to)), _class(ranges))
        ways |= {(state, last): "" for state in self.ends}
        for gone in reversed(range(1, last)):
            again = ways.pop((gone, gone), None)
            loop = "" if again is None else f"(?:{again})*"
            before = [(a, text) for (a, b), text in ways.items() if b == gone]
            after = [(b, text) for (a, b), text in ways.items() if a == gone]
            ways = {pair: text for pair, text in ways.items() if gone not in pair}
            for (a, head), (b, tail) in itertools.product(before, after):
                ways[a, b] = _either(ways.get((a, b)), f"{_grouped(head)}{loop}{_grouped(tail)}")
                if len(ways[a, b]) > longest:
                    return ""
        loop = f"(?:{ways[0, 0]})*" if (0, 0) in ways else ""
        return loop + _grouped(ways.get((0, last), ""))

    def __and__(self, other: Automaton) -> Automaton:
        """The texts that both hold."""
        return self._with(other, lambda mine, theirs: mine and theirs)

    def __sub__(self, other: Automaton) -> Automaton:
        """The texts that the other does not hold."""
        return self._with(other, lambda mine, theirs: mine and not theirs)

    def _with(self, other: Automaton, ends: Callable[[bool, bool], bool]) -> Automaton:
        def moves(pair: tuple[int, int]) -> Iterable[tuple[Ranges, tuple[int, int]]]:
            at, beside = pair
            theirs = other.moves[beside] if beside >= 0 else ()
            rest = [*theirs, (others(ranges for ranges, _ in theirs), -1)]
            for (mine, to), (with_, there) in itertools.product(self.moves[at], rest):
                if both := meet(mine, with_):
                    yield both, (to, there)

        def is_end(pair: tuple[int, int]) -> bool:
            return ends(pair[0] in self.ends, pair[1] in other.ends)

        return _explored((0, 0), moves, is_end)

    @classmethod
    def counting(cls, least: int, most: int | None) -> Automaton:
        """Texts by their number of characters."""
        last = least if most is None else most
        if last >= _MOST_STATES:
            raise TooLargeError(f"{last} characters are counted")
        moves = [((EVERY, min(at + 1, last)),) if at < last or most is None else () for at in range(last + 1)]
        return cls(tuple(moves), frozenset(range(least, last + 1)))


def _explored(
    first: Any, moves: Callable[[Any], Iterable[tuple[Ranges, Any]]], is_end: Callable[[Any], bool]
) -> Automaton:
    """The automaton whose states are found by walking; those that lead to no end are left out."""
    numbers: dict[Any, int] = {first: 0}
    found: list[dict[int, Ranges]] = []
    queue = [first]
    for state in queue:  # which grows
        leads: dict[int, Ranges] = {}
        for ranges, to in moves(state):
            if to not in numbers:
                if len(numbers) >= _MOST_STATES:
                    raise TooLargeError(f"more than {_MOST_STATES} states are needed")
                numbers[to] = len(numbers)
                queue.append(to)
            leads[numbers[to]] = join(leads.get(numbers[to], ()), ranges)
        found.append(leads)
    ends = {numbers[state] for state in queue if is_end(state)}
    return _merged(*_alive(found, ends))


def _alive(found: list[dict[int, Ranges]], ends: set[int]) -> tuple[list[dict[int, Ranges]], set[int]]:
    """Without the moves that lead to no end."""
    back: list[set[int]] = [set() for _ in found]
    for state, leads in enumerate(found):
        for to in leads:
            back[to].add(state)
    alive, queue = set(ends), [*ends]
    for state in queue:
        for before in back[state] - alive:
            alive.add(before)
            queue.append(before)
    return [
        {to: at for to, at in leads.items() if to in alive} if s in alive else {} for s, leads in enumerate(found)
    ], ends


def _merged(found: list[dict[int, Ranges]], ends: set[int]) -> Automaton:
    """States that go on alike become one: Moore's refinement, from ends and others on."""
    kind = [int(state in ends) for state in range(len(found))]
    count = 0
    while True:
        signs: dict[Any, int] = {}
        after: list[int] = []
        for state, leads in enumerate(found):
            grouped: dict[int, Ranges] = {}
            for to, ranges in leads.items():
                grouped[kind[to]] = join(grouped.get(kind[to], ()), ranges)
            sign = (kind[state], frozenset(grouped.items()))
            after.append(signs.setdefault(sign, len(signs)))
        kind = after
        if len(signs) == count:
            break
        count = len(signs)
    moves: list[tuple[tuple[Ranges, int], ...]] = [()] * count
    for state, leads in enumerate(found):
        grouped = {}
        for to, ranges in leads.items():
            grouped[kind[to]] = join(grouped.get(kind[to], ()), ranges)
        moves[kind[state]] = tuple((ranges, to) for to, ranges in grouped.items())
    return Automaton(tuple(moves), frozenset(kind[state] for state in ends))


def _either(one: str | None, other: str) -> str:
    if one is None or one == other:
        return other
    return f"(?:{one or other})?" if not (one and other) else f"{one}|{other}"


def _grouped(text: str) -> str:
    return f"(?:{text})" if "|" in text else text


def _class(ranges: Ranges) -> str:
    """A set of characters for every dialect of regular expressions."""
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _letter(ranges[0][0])
    runs = (_letter(low) if low == high else f"{_letter(low)}-{_letter(high)}" for low, high in ranges)
    return f"[{''.join(runs)}]"


def _letter(code: int) -> str:
    char = chr(code)
    return f"\\x{code:02x}" if code < 0x80 and not char.isalnum() else char


# Sets of characters.


def join(a: Ranges, b: Ranges) -> Ranges:
    """The characters of either set."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted((*a, *b)):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def meet(a: Ranges, b: Ranges) -> Ranges:
    """The characters of both sets."""
    met: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        low, high = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if low <= high:
            met.append((low, high))
        i, j = (i + 1, j) if a[i][1] < b[j][1] else (i, j + 1)
    return tuple(met)


def others(sets: Iterable[Ranges]) -> Ranges:
    """Every character that none of the sets holds."""
    taken: Ranges = ((0xD800, 0xDFFF),)
    for ranges in sets:
        taken = join(taken, ranges)
    edges = [-1, *itertools.chain.from_iterable(taken), 0x110000]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in gaps if low + 1 < high)


# Patterns.

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
                self.over[at].append((_set(op, value, self.dotall), to))
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
        return _explored(
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
            yield join(tuple(runs), ()), self.closed(to)


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
            taken: Ranges = ()
            for kind, at in value[negated:]:
                taken = join(taken, _RANGES[str(kind)](at) if str(kind) in _RANGES else _refused(str(kind)))
            return others([taken]) if negated else meet(taken, EVERY)
        case _:
            return _refused(op)


_RANGES: Mapping[str, Callable[[Any], Ranges]] = {
    "LITERAL": lambda code: ((code, code),),
    "RANGE": lambda pair: (tuple(pair),),
}


def _refused(what: str) -> Ranges:
    raise TooLargeError(f"no automaton can say its {what.lower().replace('_', ' ')}")
