"""What two JSON values have in common, leaf by leaf.

A leaf is a scalar, and belongs to the *field* that its path names: ``buyer.name``, ``tags`` for the items of a list of
scalars, ``lines[].price`` for what stands in the objects of a list. The order of a list says nothing:

- scalars of two lists agree as multisets;
- objects (and lists) of two lists are paired one to one, so that as many leaves as possible agree. Equal ones are
  paired first, which never costs a leaf; what is left is paired optimally up to 64 items a side, and beyond that
  greedily, those with most in common first. Items are sorted before, so that no input order decides a tie.

``null``, blank strings, empty lists and empty objects say nothing and have no leaves.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

__all__ = ["Comparison", "Leaf", "Path", "compare", "field_name"]

Path: TypeAlias = tuple[str, ...]
Leaf: TypeAlias = tuple[Path, str, Any]
"""The path of its field, its kind (``"string"``, ``"number"``, ``"boolean"``), and its value as it is compared."""

_EXACT_ITEMS = 64
_ITEM = "[]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The leaves of a pair of values.

    Attributes:
        hits: Those that both have in the same place.
        gold: All of the right value.
        said: All of the other.
    """

    hits: Counter[Leaf]
    gold: Counter[Leaf]
    said: Counter[Leaf]

    @property
    def exact(self) -> bool:
        """Nothing is missed, nothing is too much."""
        return self.hits.total() == self.gold.total() == self.said.total()


def compare(gold: Any, said: Any, *, casefold: bool = False) -> Comparison:
    """Compare a value with the right one.

    Args:
        gold: The right value, as ``json.loads`` gives it.
        said: The other one.
        casefold: Upper and lower case are the same.

    Example:
        >>> found = compare({"total": 1, "tags": ["a", "b"]}, {"total": 1.0, "tags": ["b", "c"]})
        >>> found.hits.total(), found.gold.total(), found.said.total()
        (2, 3, 3)
    """
    reading = _Reading(casefold)
    leaves = Counter(reading.leaves(gold))
    if gold == said and _same_kinds(gold, said):
        return Comparison(leaves, leaves, leaves)
    return Comparison(Counter(reading.hits(gold, said)), leaves, Counter(reading.leaves(said)))


def field_name(path: Path) -> str:
    """A path as people read it; a key that would be read as more than one is quoted as in JSON.

    Example:
        >>> field_name(("lines", "[]", "unit price")), field_name(("a.b",)), field_name(())
        ('lines[].unit price', '"a.b"', '(value)')
    """
    name = ""
    for part in path:
        if part == _ITEM:
            name += part
        else:
            spelled = json.dumps(part, ensure_ascii=False) if not part or set(part) & set('.[]"') else part
            name += f".{spelled}" if name else spelled
    return name or "(value)"


@dataclass(frozen=True, slots=True)
class _Reading:
    casefold: bool

    def leaves(self, value: Any, path: Path = ()) -> list[Leaf]:
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return [leaf for key, member in members.items() for leaf in self.leaves(member, (*path, _key(key)))]
        if isinstance(value, list):
            items = cast("Sequence[Any]", value)
            return [leaf for item in items for leaf in self.leaves(item, (*path, _ITEM) if _nested(item) else path)]
        return self._scalar(value, path)

    def _scalar(self, value: Any, path: Path) -> list[Leaf]:
        if value is None:
            return []
        if isinstance(value, str):
            text = " ".join(value.split())
            return [(path, "string", text.casefold() if self.casefold else text)] if text else []
        if isinstance(value, bool):
            return [(path, "boolean", value)]
        return [(path, "number", "NaN" if isinstance(value, float) and math.isnan(value) else value)]

    def hits(self, gold: Any, said: Any, path: Path = ()) -> list[Leaf]:
        """The leaves that both have."""
        if isinstance(gold, dict) and isinstance(said, dict):
            right, other = cast("dict[str, Any]", gold), cast("dict[str, Any]", said)
            return [leaf for key in right if key in other
                    for leaf in self.hits(right[key], other[key], (*path, _key(key)))]  # fmt: skip
        if isinstance(gold, list) and isinstance(said, list):
            return self._of_lists(cast("Sequence[Any]", gold), cast("Sequence[Any]", said), path)
        if _nested(gold) or _nested(said):
            return []
        return [leaf for leaf in self._scalar(gold, path) if leaf in self._scalar(said, path)]

    def _of_lists(self, gold: Sequence[Any], said: Sequence[Any], path: Path) -> list[Leaf]:
        right, other = (
            Counter(leaf for item in items if not _nested(item) for leaf in self._scalar(item, path))
            for items in (gold, said)
        )
        inner = (*path, _ITEM)
        pairs = self._paired([item for item in gold if _nested(item)], [item for item in said if _nested(item)])
        return [*(right & other).elements(), *(leaf for a, b in pairs for leaf in self.hits(a, b, inner))]

    def _paired(self, gold: list[Any], said: list[Any]) -> list[tuple[Any, Any]]:
        """One to one, the order of either deciding nothing."""
        if not gold or not said:
            return []
        right, other = self._sorted(gold), self._sorted(said)
        same = Counter(key for key, _ in right) & Counter(key for key, _ in other)
        (even, right), (_, other) = _split(right, same), _split(other, same)
        pairs = [(item, item) for item in even]
        if right and other:
            # Rows are the fewer, which is what the assignment asks for.
            flipped = len(right) > len(other)
            rows, columns = (other, right) if flipped else (right, other)
            weights = [[len(self.hits(row, column)) for _, column in columns] for _, row in rows]
            assign = _best if len(columns) <= _EXACT_ITEMS else _greedy
            found = [(rows[i][1], columns[j][1]) for i, j in enumerate(assign(weights)) if j is not None]
            pairs += [(column, row) for row, column in found] if flipped else found
        return pairs

    def _sorted(self, items: list[Any]) -> list[tuple[str, Any]]:
        """Each with a text that is the same for all that compare as the same."""
        return sorted(((self._canonical(item), item) for item in items), key=lambda pair: pair[0])

    def _canonical(self, value: Any) -> str:
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            said = ((json.dumps(key), self._canonical(member)) for key, member in sorted(members.items()))
            return "{" + ",".join(f"{key}:{member}" for key, member in said if member) + "}"
        if isinstance(value, list):
            items = [self._canonical(item) for item in cast("Sequence[Any]", value)]
            return "[" + ",".join(sorted(filter(None, items))) + "]"
        scalar = self._scalar(value, ())
        if not scalar:
            return ""
        _, kind, known = scalar[0]
        whole = isinstance(known, float) and known.is_integer()
        return f"{kind[0]}{json.dumps(int(known) if whole else known)}"


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _key(key: str) -> str:
    # No key is taken for the mark of a list's items.
    return key if key != _ITEM else " []"


def _same_kinds(gold: Any, said: Any) -> bool:
    """Whether equal values are equal as JSON too: to Python, ``True`` is 1."""
    if isinstance(gold, dict):
        other = cast("dict[str, Any]", said)
        return all(_same_kinds(member, other[key]) for key, member in cast("dict[str, Any]", gold).items())
    if isinstance(gold, list):
        return all(map(_same_kinds, cast("Sequence[Any]", gold), cast("Sequence[Any]", said)))
    return isinstance(gold, bool) == isinstance(said, bool)


def _split(items: list[tuple[str, Any]], same: Mapping[str, int]) -> tuple[list[Any], list[tuple[str, Any]]]:
    """The items that have an equal on the other side, and the rest."""
    left = dict(same)
    even: list[Any] = []
    rest: list[tuple[str, Any]] = []
    for key, item in items:
        if left.get(key, 0):
            left[key] -= 1
            even.append(item)
        else:
            rest.append((key, item))
    return even, rest


def _greedy(weights: Sequence[Sequence[int]]) -> list[int | None]:
    """A column for each row, heaviest pairs first; none for a row that nothing has anything in common with."""
    pairs = sorted(
        ((weight, i, j) for i, row in enumerate(weights) for j, weight in enumerate(row) if weight),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    rows: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in pairs:
        if i not in rows and j not in taken:
            rows[i] = j
            taken.add(j)
    return [rows.get(i) for i in range(len(weights))]


def _best(weights: Sequence[Sequence[int]]) -> list[int | None]:
    """A column for each row, the sum of weights as great as it can be; there are no more rows than columns.

    The Hungarian method with potentials: rows are added one by one, each along a cheapest augmenting path.
    """
    width = len(weights[0])
    search = _Search(weights, [0.0] * (len(weights) + 1), [0.0] * (width + 1), [0] * (width + 1), [0] * (width + 1))
    for row in range(1, len(weights) + 1):
        search.add(row)
    found: list[int | None] = [None] * len(weights)
    for column in range(1, width + 1):
        if search.owner[column]:
            found[search.owner[column] - 1] = column - 1
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    """An assignment as it grows. Rows and columns count from 1; column 0 stands for the row that is being added."""

    weights: Sequence[Sequence[int]]
    row_potential: list[float]
    column_potential: list[float]
    owner: list[int]
    before: list[int]

    def add(self, row: int) -> None:
        """Assign one more row; those before it may move to other columns."""
        self.owner[0] = row
        column = self._free_column()
        while column:
            self.owner[column] = self.owner[self.before[column]]
            column = self.before[column]

    def _free_column(self) -> int:
        """The end of a cheapest path from the new row to a column that nobody owns."""
        width = len(self.column_potential)
        column, slack, seen = 0, [math.inf] * width, [False] * width
        while self.owner[column]:
            seen[column] = True
            self._relax(column, slack, seen)
            nearest = min((j for j in range(1, width) if not seen[j]), key=slack.__getitem__)
            step = slack[nearest]
            for j in range(width):
                if seen[j]:
                    self.row_potential[self.owner[j]] += step
                    self.column_potential[j] -= step
                else:
                    slack[j] -= step
            column = nearest
        return column

    def _relax(self, column: int, slack: list[float], seen: list[bool]) -> None:
        """See which columns the owner of this one would reach more cheaply."""
        row = self.owner[column]
        for j in range(1, len(slack)):
            cost = -self.weights[row - 1][j - 1] - self.row_potential[row] - self.column_potential[j]
            if not seen[j] and cost < slack[j]:
                slack[j], self.before[j] = cost, column
