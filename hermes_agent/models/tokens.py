"""Text to tokens and back, where data must not become markup and no character may be torn apart."""

# transformers, peft and torch leave parts of their signatures untyped; what we pass on has a type again.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import codecs
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from hermes_agent.formats.segments import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["StopStrings", "TextStream", "added_tokens", "count_tokens", "encode_segments"]

_KEPT_TOKENS = 500_000
"""How many tokens of earlier prompts are remembered, by tokenizer: 20 MB at most."""


def encode_segments(tokenizer: PreTrainedTokenizerBase, segments: Iterable[Segment]) -> list[int]:
    """Tokens of a prompt. Nothing is added at its ends.

    In a trusted segment every added token counts as what it is. In an untrusted one none can arise, special or
    not: ``<|im_end|>`` and Qwen's ``<tool_call>`` become the pieces that any other text would become. The tokens
    decode to the same text, as far as the tokenizer's own normaliser keeps text as it is.

    Args:
        tokenizer: A Hugging Face tokenizer.
        segments: The prompt.
    """
    encode = _encoder(tokenizer)
    added, memory = _added(tokenizer), _memory(tokenizer)
    ids: list[int] = []
    for run in _runs(segments, added):
        found: list[int] = []
        made = 0
        for piece in memory.pieces("".join(segment.text for segment in run)):
            tokens, markup = memory.recall(piece, encode)
            found += tokens
            made += markup
        # Tokens may straddle the edges of harmless text, as they did when the model was trained. If more markup came
        # of it than the trusted text holds, an edge or the normaliser made some: then nothing may straddle.
        meant = sum(len(added.findall(s.text)) for s in run if s.trusted) if added is not None else 0
        if made == meant:
            ids += found
            continue
        for segment in run:
            ids.extend(encode(segment.text) if segment.trusted else _plain(segment.text, tokenizer, encode))
    return ids


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """How many tokens `encode_segments` makes of untrusted text; nothing is remembered of it."""
    encode = _encoder(tokenizer)
    found = encode(text)
    if _markup_ids(tokenizer).isdisjoint(found):
        return len(found)
    return sum(1 for _ in _plain(text, tokenizer, encode))


def _runs(segments: Iterable[Segment], added: re.Pattern[str] | None) -> Iterator[list[Segment]]:
    """Segments that can be encoded in one go; an untrusted one with markup in its text stands alone."""
    run: list[Segment] = []
    for segment in segments:
        if segment.trusted or added is None or not added.search(segment.text):
            run.append(segment)
            continue
        if run:
            yield run
        yield [segment]
        run = []
    if run:
        yield run


def _plain(text: str, tokenizer: PreTrainedTokenizerBase, encode: Callable[[str], list[int]]) -> Iterator[int]:
    """Tokens of text in which no added token may arise."""
    for piece in _split(text, _added(tokenizer)):
        found = encode(piece)
        if _markup_ids(tokenizer).isdisjoint(found):
            yield from found
        else:  # The normaliser or the model itself made one after all: letter by letter it cannot.
            for letter in piece:
                yield from encode(letter)


def _split(text: str, added: re.Pattern[str] | None) -> list[str]:
    """Cut behind the first character of every added token, overlapping ones too."""
    if added is None:
        return [text] if text else []
    pieces: list[str] = []
    start = 0
    match = added.search(text)
    while match:
        cut = match.start() + 1
        pieces.append(text[start:cut])
        start = cut
        match = added.search(text, cut)
    pieces.append(text[start:])
    return [piece for piece in pieces if piece]


class _Memory:
    """Tokens of the pieces of earlier prompts: most of a prompt is that of the turn before.

    Text is cut in front of added tokens, where tokenizers cut it themselves before they do anything else, so that
    each piece has the tokens that it has in the whole.

    Args:
        tokenizer: Whose tokens; it is not kept.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._markup = _markup_ids(tokenizer)
        cuts = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            # One that is matched by what stands before it, or behind a normaliser, cannot begin a piece.
            if len(token.content.strip()) > 1 and not (token.lstrip or token.single_word or token.normalized)
        ]
        cuts.sort(key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, cuts))) if cuts else None
        self._known: OrderedDict[str, tuple[tuple[int, ...], int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def pieces(self, text: str) -> Iterator[str]:
        """The text, cut in front of added tokens."""
        starts = [match.start() for match in self._cut.finditer(text)] if self._cut is not None else []
        edges = [0, *(start for start in starts if start), len(text)]
        return (text[start:end] for start, end in pairwise(edges) if end > start)

    def recall(self, piece: str, encode: Callable[[str], list[int]]) -> tuple[tuple[int, ...], int]:
        """The tokens of a piece, and how many of them are markup."""
        with self._lock:
            known = self._known.get(piece)
            if known is not None:
                self._known.move_to_end(piece)
                return known
        tokens = tuple(encode(piece))
        made = tokens, sum(token in self._markup for token in tokens)
        with self._lock:
            if piece not in self._known:
                self._known[piece] = made
                self._size += len(tokens)
            while self._size > _KEPT_TOKENS and len(self._known) > 1:
                _, (dropped, _) = self._known.popitem(last=False)
                self._size -= len(dropped)
        return made


_memories: WeakKeyDictionary[PreTrainedTokenizerBase, _Memory] = WeakKeyDictionary()


def _memory(tokenizer: PreTrainedTokenizerBase) -> _Memory:
    known = _memories.get(tokenizer)
    if known is None:
        known = _memories[tokenizer] = _Memory(tokenizer)
    return known


_patterns: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[re.Pattern[str] | None, frozenset[int]]] = (
    WeakKeyDictionary()
)


def _markup(tokenizer: PreTrainedTokenizerBase) -> tuple[re.Pattern[str] | None, frozenset[int]]:
    known = _patterns.get(tokenizer)
    if known is None:
        # Runs of blanks and single characters are added tokens in some vocabularies; they mark nothing up.
        marks = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if len(t.content.strip()) > 1}
        pattern = re.compile("|".join(map(re.escape, sorted(marks, key=len)))) if marks else None
        known = _patterns[tokenizer] = (pattern, frozenset(marks.values()))
    return known


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every added token that marks something up, as text."""
    return [t.content for t in tokenizer.added_tokens_decoder.values() if len(t.content.strip()) > 1]


def _added(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    return _markup(tokenizer)[0]


def _markup_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    return _markup(tokenizer)[1]


def _encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """Encode a piece as the middle of a text.

    SentencePiece vocabularies put a space before whatever they encode; in the middle of a prompt it would be a
    space that nobody wrote, so the piece is encoded behind a line break, which is then taken off.
    """

    def plain(text: str) -> list[int]:
        # Not verbose: transformers would print its own warning about a prompt that is too long, before our error.
        return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))

    letter = tokenizer.convert_ids_to_tokens(plain("a"))
    if not (letter and letter[0].startswith("▁")):
        return plain
    lead = plain("\n")

    def inner(text: str) -> list[int]:
        ids = plain("\n" + text)
        if ids[: len(lead)] == lead:
            return ids[len(lead) :]
        # The break has merged with what follows: with a break more in front it is the first that merges.
        return plain(text)

    return inner


class TextStream:
    """Turns tokens into text as they come; a character is given out when all its bytes are there.

    Args:
        bytes_of: The bytes a token stands for. Added tokens stand for their names.
    """

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this token completes."""
        return self._decoder.decode(self._bytes_of(token))

    @property
    def pending(self) -> bool:
        """Whether a character is half written."""
        return bool(self._decoder.getstate()[0])

    def flush(self) -> str:
        """What is left: a replacement character if the last character was never finished."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Holds text back while it may still become a stop string.

    Args:
        stops: The strings that end a text; they are not part of it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def push(self, text: str, *, may_stop: bool = True) -> tuple[str, bool]:
        """What may be given out now, and whether a stop string was reached."""
        if not self._stops:
            return text, False
        self._held += text
        if may_stop:
            found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
            if found:
                text, self._held = self._held[: min(found)], ""
                return text, True
        keep = max(self._overlap(stop) for stop in self._stops)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text, False

    def flush(self) -> str:
        """What was held back and turned out to be text."""
        text, self._held = self._held, ""
        return text

    def _overlap(self, stop: str) -> int:
        """How many characters at the end could be the start of ``stop``."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
