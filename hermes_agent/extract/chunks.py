"""Long texts: cut into pieces that overlap, extracted side by side, and merged."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from hermes_agent.context import Retry
from hermes_agent.errors import ConfigurationError, HermesError, InvalidOutputError
from hermes_agent.extract.merge import Merging, Rule, check_rules, spelled
from hermes_agent.extract.result import Extraction
from hermes_agent.history import estimate_text
from hermes_agent.json_text import dump_json
from hermes_agent.limits import NOTHING, Usage
from hermes_agent.models.base import Guarantee, weakest
from hermes_agent.output import OutputError
from hermes_agent.threads import in_thread

if TYPE_CHECKING:
    from hermes_agent.extract.extractor import Extractor

__all__ = ["Chunking", "Piece", "extract_in_chunks", "split"]

T = TypeVar("T")

Count = Callable[[str], int]
"""How many tokens a text is."""

_WHOLE = 64
"""A text of more characters than this times the tokens of a piece is not counted whole: it does not fit."""
_FULL = 0.85
"""A piece that is filled so far is not counted again for the sake of a few words more."""
_EXACT = 100
"""Pieces of fewer tokens are filled to the last word."""

# From the most natural cut to the least; each stands behind what it belongs to.
_CUTS = (
    re.compile(r"\n[ \t\r]*\n\s*"),
    re.compile(r"\n"),
    re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]+"),
    re.compile(r"\s+"),
)

_TOLD = "The text is one part of a longer one. What this part does not say is left out, or null, or an empty list."


@dataclass(frozen=True, slots=True, repr=False)
class Chunking:
    """How long texts are split and their pieces' values merged. A text that fits is asked for in one prompt.

    Args:
        tokens: The most tokens of the text in one prompt; instructions, schema and answer come on top.
        overlap: How many of them, at most, are the end of the piece before, so that what stands across a cut is whole
            in one of the two.
        merge: How the values of a field are merged: ``"first"``, ``"last"``, ``"union"``, ``"longest"``, ``"vote"``,
            or a function that takes the list of values. A field is named by a JSON pointer or a dotted path, the
            whole value by ``""``. By default lists are united, objects merged field by field, and of anything else
            the first value is taken. See docs/extraction.md.
        count: Counts the tokens of a text. By default the model's own tokenizer does, where it is on this machine;
            else four characters are taken for a token, and beyond the Latin script three for two.
        concurrency: How many pieces of one text may be asked for at the same time.

    Raises:
        ConfigurationError: The sizes do not fit each other, or there is no such rule.

    Example:
        >>> Chunking(tokens=1000, overlap=50, merge={"total": "last", "tags": sorted})
        Chunking(tokens=1000, overlap=50, merge={'total': 'last', 'tags': builtins.sorted}, count=None, concurrency=8)
    """

    tokens: int = 2000
    overlap: int = 200
    merge: Mapping[str, Rule] = field(default_factory=dict[str, Rule], hash=False)
    count: Count | None = None
    concurrency: int = 8

    def __post_init__(self) -> None:
        for name in ("tokens", "concurrency"):
            value: object = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(
                    f"Chunking({name}={value!r}) allows nothing", hint="use a whole number from 1 on"
                )
        if not 0 <= self.overlap <= self.tokens // 2:
            raise ConfigurationError(
                f"Chunking(overlap={self.overlap!r}) is not between 0 and half of tokens={self.tokens!r}",
                hint="a tenth of tokens is a good overlap",
            )
        check_rules(self.merge)
        object.__setattr__(self, "merge", dict(self.merge))

    def __repr__(self) -> str:
        """The same in every process, which the addresses of functions are not: a job is known by it."""
        rules = ", ".join(f"{path!r}: {spelled(rule)}" for path, rule in self.merge.items())
        count = "None" if self.count is None else spelled(self.count)
        return (
            f"Chunking(tokens={self.tokens}, overlap={self.overlap}, merge={{{rules}}}, count={count}, "
            f"concurrency={self.concurrency})"
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text.

    Attributes:
        start: Where in the text it begins, in characters.
        text: What it says.
    """

    start: int
    text: str

    @property
    def end(self) -> int:
        """Where in the text it ends: the offset of the first character behind it."""
        return self.start + len(self.text)


def split(text: str, *, tokens: int, overlap: int = 0, count: Count = estimate_text) -> Iterator[Piece]:
    """Cut a text into pieces, at paragraphs where that is possible, else at lines, sentences, words, or anywhere.

    Every character is in some piece. A piece counts at most ``tokens``, unless a single character counts more, and
    what it shares with the piece before at most ``overlap``. Each piece ends behind the one before. The time grows
    with the length of the text, as long as that of ``count`` does.

    Args:
        text: The text.
        tokens: The most that ``count`` may say of a piece.
        overlap: The most that it may say of what two pieces share; at most half of ``tokens``.
        count: How many tokens a text is.

    Example:
        >>> [piece.text for piece in split("One two three. Four five.", tokens=4, count=lambda t: len(t.split()))]
        ['One two three. ', 'Four five.']
    """
    if not text or (len(text) <= _WHOLE * tokens and count(text) <= tokens):
        yield Piece(0, text)
        return
    fit = _Fit(text, tokens, count)
    start = behind = 0
    while behind < len(text):
        end = fit.cut(start, behind)
        if end <= behind:  # what is shared leaves no room, by an odd way of counting
            start = behind
            end = fit.cut(start, behind)
        yield Piece(start, text[start:end])
        behind = end
        start = max(start + 1, _shared_from(text, end, overlap, count, fit.per_token))


class _Fit:
    """Finds how much text from some place on is about so many tokens, by what the last piece has taught."""

    def __init__(self, text: str, tokens: int, count: Count) -> None:
        self._text, self._tokens, self._count = text, tokens, count
        self.per_token = 4.0

    def cut(self, start: int, behind: int) -> int:
        """The end of a piece from ``start``, natural if possible; ``behind`` is that of the piece before."""
        end = self._end(start)
        if end < len(self._text):
            end = _natural_end(self._text, max(behind + 1, start + (end - start) // 2, start + 1), end)
        # A part of a text may count more than the whole.
        while end - start > 1 and self._count(self._text[start:end]) > self._tokens:
            end = max(start + 1, end - max(1, (end - start) // 8))
        return end

    def _end(self, start: int) -> int:
        """The end of a piece from ``start`` that counts no more than allowed; at least one character."""
        most = len(self._text) - start
        low, high = 0, most + 1  # fits; does not
        guess = min(most, max(1, int(self._tokens * self.per_token * 0.97)))
        while guess > low:
            counted = self._count(self._text[start : start + guess])
            expected = int(guess * self._tokens * 0.97 / max(counted, 1))
            if counted > self._tokens:
                high = guess
                guess = min(max(low + 1, expected), high - 1)
            else:
                low = guess
                full = self._tokens >= _EXACT and counted >= _FULL * self._tokens and most - low > low // 2
                guess = low if full else min(most, max(expected, low + 1 + low // 4)) if high > most else 0
            if high <= most and low:
                if high - low <= (1 if self._tokens < _EXACT else max(1, low // 16)):
                    break
                guess = (low + high) // 2
        end = max(low, 1)
        self.per_token = max(end / self._tokens, 0.01)
        return start + end


def _natural_end(text: str, least: int, most: int) -> int:
    """The last natural cut from ``least`` to ``most``, of the best kind that there is."""
    for kind in _CUTS:
        # A cut at the very end is seen as such only with what follows it, but white space may run on for ever.
        found = [match.end() for match in kind.finditer(text, max(0, least - 1), most) if match.end() >= least]
        if found:
            return found[-1]
    if most < len(text) and text[most - 1 : most + 1] == "\r\n" and most - 1 >= least:
        return most - 1
    return most


def _shared_from(text: str, end: int, overlap: int, count: Count, per_token: float) -> int:
    """Where the piece behind one that ends at ``end`` begins."""
    if not overlap:
        return end
    length = max(1, min(end, int(overlap * per_token)))
    while (counted := count(text[end - length : end])) > overlap:
        if length == 1:
            return end
        length = max(1, min(length - 1, int(length * overlap * 0.97 / counted)))
    first = end - length
    middle = first + length // 2
    for kind in _CUTS:
        found = kind.search(text, max(0, first - 1), middle)
        if found and first <= found.end() < end and count(text[found.end() : end]) <= overlap:
            return found.end()
    return first


async def extract_in_chunks(extractor: Extractor[T], chunking: Chunking, text: str) -> Extraction[T]:
    """The value of a text, by its pieces if it is too long for one prompt.

    Pieces are asked for what they hold: a field need not be in any one of them. Only the merged value must be of the
    extractor's type, and only it is shown to the validators. A piece that fails fails the text; what the other pieces
    have cost by then counts.

    Raises:
        ConfigurationError: A rule of merging is for a field that the type does not have.
    """
    asked = _asked(extractor, chunking)  # a rule that fits no field is wrong for short texts too
    if not text.strip():
        return await extractor.extract_whole(text)
    pieces = await _pieces(extractor, chunking, text)
    if len(pieces) == 1:
        return await extractor.extract_whole(text)
    worth = {number: piece for number, piece in enumerate(pieces, 1) if piece.text.strip()}
    found = await _side_by_side(asked.extractor, worth, chunking.concurrency)
    parts = [found[number] for number in sorted(found)]
    usage = sum((part.usage for part in parts), NOTHING)
    for number, part in sorted(found.items()):
        if part.error is not None:
            piece = worth[number]
            where = f"piece {number} of {len(pieces)}, characters {piece.start} to {piece.end}"
            return _failed(_placed(part.error, where), usage, parts)
    return await _merged(extractor, asked.merging, parts, usage)


async def _side_by_side(
    extractor: Extractor[Any], pieces: Mapping[int, Piece], concurrency: int
) -> dict[int, Extraction[Any]]:
    """What became of the pieces; behind one that fails no other is begun."""
    found: dict[int, Extraction[Any]] = {}
    raised: list[Exception] = []
    waiting = iter(pieces.items())

    async def work() -> None:
        try:
            for number, piece in waiting:
                found[number] = await extractor.extract_whole(piece.text)
                if found[number].error is not None:
                    # Those under way end, so that what they cost is known.
                    deque(waiting, maxlen=0)
        except Exception as error:  # noqa: BLE001  # raised again below, where no group wraps it
            raised.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(concurrency, len(pieces))):
            group.start_soon(work)
    if raised:
        raise raised[0]
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """How pieces are asked for, by an extractor and its chunking."""

    chunking: Chunking
    merging: Merging
    extractor: Extractor[Any]


_known: WeakKeyDictionary[Extractor[Any], _Asked] = WeakKeyDictionary()


def _asked(extractor: Extractor[Any], chunking: Chunking) -> _Asked:
    known = _known.get(extractor)
    if known is None or known.chunking is not chunking:
        merging = Merging.of(extractor.output, chunking.merge)
        known = _known[extractor] = _Asked(chunking, merging, extractor.asking_for(merging.output, _TOLD))
    return known


async def _pieces(extractor: Extractor[Any], chunking: Chunking, text: str) -> list[Piece]:
    count = chunking.count or getattr(extractor.model, "count_tokens", None) or estimate_text

    def cut() -> list[Piece]:
        return list(split(text, tokens=chunking.tokens, overlap=chunking.overlap, count=cast("Count", count)))

    # Counting may load a tokenizer, and take its time; an estimate of a few pages is no work for a thread.
    return cut() if count is estimate_text and len(text) < 50_000 else await in_thread(cut)


async def _merged(
    extractor: Extractor[T], merging: Merging, parts: list[Extraction[Any]], usage: Usage
) -> Extraction[T]:
    """One value of the pieces' values, valid as a whole or not at all."""
    values = [part.output for part in parts]
    answers = [dump_json(value) for value in values]
    raw = ""
    try:
        raw = dump_json(merging.merged(values))
        value = await extractor.accept(raw)
    except (OutputError, Retry, TypeError) as error:
        wrong = InvalidOutputError(
            f"what {len(values)} pieces of the text hold makes no valid {extractor.output.name!r}: {error}",
            hint="look at .attempts, the answers of the pieces; Chunking(merge=…) chooses between their values",
            raw=raw,
            attempts=answers,
        )
        wrong.__cause__ = error
        return _failed(wrong, usage, parts)
    return Extraction(value, None, usage, _guarantee(parts), _attempts(parts))


def _failed(error: HermesError, usage: Usage, parts: list[Extraction[Any]]) -> Extraction[Any]:
    return Extraction(None, error, usage, _guarantee(parts), _attempts(parts))


def _attempts(parts: list[Extraction[Any]]) -> int:
    return sum(part.attempts for part in parts)


def _guarantee(parts: list[Extraction[Any]]) -> Guarantee | None:
    given: list[Guarantee] = [part.guarantee for part in parts if part.guarantee is not None]
    return weakest(given) if given else None


def _placed(error: HermesError, where: str) -> HermesError:
    """The same error, which says besides where in the text it happened."""
    told = copy.copy(error)
    told.message = f"{where}: {error.message}"
    told.args = (told.message, *error.args[1:])
    told.__cause__ = error
    return told
