"""Sets of texts as finite automata over code points, for grammars that know no regular expressions.

GBNF has neither complements nor intersections nor counted repeats of any size. What a grammar wants of a text,
patterns, lengths, forbidden markup, is therefore worked out here, and written out state by state.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = ["EVERY", "Automaton", "Ranges", "TooLargeError", "explored", "join", "meet", "others"]

Ranges: TypeAlias = "tuple[tuple[int, int], ...]"
"""First and last code point of each run, in order and apart."""

EVERY: Final[Ranges] = ((0, 0xD7FF), (0xE000, 0x10FFFF))
"""Every character a text may hold."""

_SURROGATES: Final = range(0xD800, 0xE000)
_MOST_STATES = 4_000
_MOST_MERGED = 500
"""States of which equal ones are looked for: it takes up to the square of their number."""


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

        return explored((0, 0), moves, is_end)

    @classmethod
    def all_but(cls, texts: Iterable[str]) -> Automaton:
        """Every text but these: a tree of their beginnings, which every other character leaves for good.

        Raises:
            TooLargeError: They take too many states.
        """
        trees: list[dict[str, int]] = [{}]
        said: set[int] = set()
        for text in texts:
            at = 0
            for char in text:
                if char not in trees[at]:
                    trees.append({})
                    trees[at][char] = len(trees) - 1
                at = trees[at][char]
            said.add(at)
        free = len(trees)
        if free >= _MOST_STATES:
            raise TooLargeError(f"more than {_MOST_STATES} states are needed")
        moves: list[tuple[tuple[Ranges, int], ...]] = []
        for tree in trees:
            ways = [(((ord(char), ord(char)),), to) for char, to in tree.items() if ord(char) not in _SURROGATES]
            moves.append((*ways, (others(ranges for ranges, _ in ways), free)))
        return cls((*moves, ((EVERY, free),)), frozenset({*range(free + 1)} - said))

    @classmethod
    def counting(cls, least: int, most: int | None) -> Automaton:
        """Texts by their number of characters."""
        last = least if most is None else most
        if last >= _MOST_STATES:
            raise TooLargeError(f"{last} characters are counted")
        moves = [((EVERY, min(at + 1, last)),) if at < last or most is None else () for at in range(last + 1)]
        return cls(tuple(moves), frozenset(range(least, last + 1)))


def explored(
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
            _extend(leads, numbers[to], ranges)
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
    count = len(found)
    if count > _MOST_MERGED:
        return Automaton(tuple(tuple((at, to) for to, at in leads.items()) for leads in found), frozenset(ends))
    kind = [int(state in ends) for state in range(count)]
    count = 0
    while True:
        signs: dict[Any, int] = {}
        after: list[int] = []
        for state, leads in enumerate(found):
            grouped: dict[int, Ranges] = {}
            for to, ranges in leads.items():
                _extend(grouped, kind[to], ranges)
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
            _extend(grouped, kind[to], ranges)
        moves[kind[state]] = tuple((ranges, to) for to, ranges in grouped.items())
    return Automaton(tuple(moves), frozenset(kind[state] for state in ends))


def _extend(leads: dict[int, Ranges], to: int, ranges: Ranges) -> None:
    leads[to] = join(leads[to], ranges) if to in leads else ranges


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


def join(*sets: Iterable[tuple[int, int]]) -> Ranges:
    """The characters of any of the sets, whose runs may stand in any order."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(itertools.chain(*sets)):
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
    taken = join(((_SURROGATES.start, _SURROGATES.stop - 1),), *sets)
    edges = [-1, *itertools.chain.from_iterable(taken), 0x110000]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in gaps if low + 1 < high)
