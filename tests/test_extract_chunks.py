"""Long texts: pieces that cover the text within their bound, asked side by side, and one value of what they hold."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.errors import ConfigurationError, HermesError, InvalidOutputError, ModelUnavailableError
from hermes_agent.extract import Extractor
from hermes_agent.extract.chunks import Chunking, Piece, split
from hermes_agent.history import estimate_text
from hermes_agent.limits import Limits
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.testing import ScriptedModel

BACKENDS = ["asyncio", "trio"]


class Invoice(BaseModel):
    number: str
    total: float
    items: list[str] = []


def words(text: str) -> int:
    return len(text.split())


def utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


COUNTS: list[Callable[[str], int]] = [len, words, utf8, estimate_text, lambda text: len(re.findall(r"\w+|\s|.", text))]
TEXTS = st.text() | st.lists(st.sampled_from(["a", "Word ", "x. ", "\n", "\n\n", "é", "日本", " "]), max_size=300).map(
    "".join
)


def pieces_of(text: str, tokens: int, overlap: int, count: Callable[[str], int] = len) -> list[Piece]:
    return list(split(text, tokens=tokens, overlap=overlap, count=count))


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, tokens=st.integers(1, 60), share=st.floats(0, 0.5), count=st.sampled_from(COUNTS))
def test_pieces_cover_the_text_within_their_bound(
    text: str, tokens: int, share: float, count: Callable[[str], int]
) -> None:
    overlap = int(tokens * share)
    pieces = pieces_of(text, tokens, overlap, count)
    assert pieces[0].start == 0
    assert pieces[-1].end == len(text)
    for piece in pieces:
        assert piece.text == text[piece.start : piece.end]
        assert count(piece.text) <= tokens or len(piece.text) == 1
    for before, piece in pairwise(pieces):
        assert before.start < piece.start <= before.end < piece.end
        assert count(text[piece.start : before.end]) <= overlap
    if count(text) <= tokens:
        assert pieces == [Piece(0, text)]


@given(text=TEXTS.filter(bool), tokens=st.integers(4, 60))
def test_pieces_share_what_stands_at_a_cut(text: str, tokens: int) -> None:
    pieces = pieces_of(text, tokens, tokens // 2)
    assert all(piece.start < before.end for before, piece in pairwise(pieces))


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One one. Two two.\n\nThree three. Four four, five.", "One one. Two two.\n\n"),
        ("One one. Two two.\nThree three. Four four, five.", "One one. Two two.\n"),
        ("One one two two three. Three three four four, five.", "One one two two three. "),
        ("One one two two three three three four four, five.", "One one two two three three three "),
        ("x" * 50, "x" * 34),
    ],
)
def test_the_most_natural_cut_is_taken(text: str, cut: str) -> None:
    first = pieces_of(text, 35, 0)[0].text
    assert first == cut or set(first) == {"x"}


def test_a_long_text_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        text = "A sentence of some words, and then another one.\n" * count
        began = time.process_time()
        assert len(pieces_of(text, 500, 50, estimate_text)) > 10
        return time.process_time() - began

    seconds(1000)
    short, long = seconds(2_000), seconds(40_000)
    assert long < 60 * max(short, 0.002)


def asked_of(request: Request) -> str:
    question = request.messages[1]
    assert isinstance(question, UserMessage)
    return question.text


def answers(**told: str) -> Callable[[Request], str]:
    """Answers by a word that stands in the question."""

    def write(request: Request) -> str:
        asked = asked_of(request)
        return next((answer for word, answer in told.items() if word in asked), '{"items": []}')

    return write


def extractor(model: ScriptedModel, **chunking: Any) -> Extractor[Invoice]:
    options: dict[str, Any] = {"tokens": 4, "overlap": 0, "count": words, **chunking}
    return Extractor(Invoice, model, chunking=Chunking(**options), limits=Limits(corrections=0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_piece_tells_what_it_holds(backend: str) -> None:
    model = ScriptedModel([answers(Number='{"number": "A-7", "items": ["tea"]}', Total='{"total": 5}')] * 3)
    asked = extractor(model)
    text = "Number A-7 of tea.\n\nNothing is said here.\n\nTotal 5 for tea."
    found = anyio.run(asked.extract_async, text, backend=backend)
    assert found.output == Invoice(number="A-7", total=5, items=["tea"])
    assert (found.usage.steps, found.attempts, found.guarantee) == (3, 3, "checked")
    assert sorted(map(asked_of, model.requests)) == sorted(re.split(r"(?<=\n\n)", text))


def test_a_text_that_fits_is_asked_as_without_chunking() -> None:
    plain, chunked = ScriptedModel(['{"number": "A", "total": 1}']), ScriptedModel(['{"number": "A", "total": 1}'])
    Extractor(Invoice, plain).extract("A, 1")
    extractor(chunked).extract("A, 1")
    assert plain.requests[0].messages[:2] == chunked.requests[0].messages[:2]
    assert plain.requests[0].output == chunked.requests[0].output


def test_a_value_that_no_piece_holds_is_an_error_and_not_made_up() -> None:
    with pytest.raises(InvalidOutputError, match="total: is required, and missing") as caught:
        extractor(ScriptedModel([answers(Number='{"number": "A"}')] * 2)).extract(
            "Number A of tea. Nothing is said here."
        )
    assert caught.value.raw == '{"number": "A", "items": []}'
    assert caught.value.attempts == ('{"number": "A"}', '{"items": []}')


def test_a_failed_piece_says_where_it_is_and_what_was_written() -> None:
    script = answers(Number='{"number": "A", "items": []}', Broken="no JSON")
    text = "Number A of tea.\n\nBroken is all this.\n\nNothing is said here."
    asked = extractor(ScriptedModel([script] * 3), concurrency=1)
    asked._on_error = "return"  # pyright: ignore[reportPrivateUsage]
    found = asked.extract(text)
    assert isinstance(found.error, InvalidOutputError)
    assert "piece 2 of 3, characters 18 to 39: " in str(found.error)
    assert found.error.attempts == ("no JSON",)
    assert found.usage.steps == 2  # the third was not begun
    assert found.error.records


def test_a_model_that_cannot_write_keeps_its_kind_of_error() -> None:
    asked = extractor(ScriptedModel([ModelUnavailableError("gone", hint="come back")] * 2))
    with pytest.raises(ModelUnavailableError, match=r"piece 1 of 2, characters 0 to .*: gone") as caught:
        asked.extract("One two three four. Five six seven eight.")
    assert caught.value.hint == "come back"


@pytest.mark.parametrize("backend", BACKENDS)
def test_pieces_are_asked_side_by_side_and_bounded(backend: str) -> None:
    class Slow(ScriptedModel):
        active = most = 0

        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            self.active += 1
            self.most = max(self.most, self.active)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            async for chunk in super().generate(request):
                yield chunk
            self.active -= 1

    model = Slow(['{"number": "A", "total": 1, "items": []}'] * 10)
    anyio.run(extractor(model, concurrency=3).extract_async, "One two three four. " * 10, backend=backend)
    assert model.most == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_text_leaves_nothing_behind(backend: str) -> None:
    class Hanging(ScriptedModel):
        begun = ended = 0

        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            self.begun += 1
            try:
                await anyio.sleep_forever()
                yield Chunk("")
            finally:
                self.ended += 1

    model = Hanging([])

    async def go() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(extractor(model).extract_async, "One two three four. " * 3)
            while model.begun < 3:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    anyio.run(go, backend=backend)
    assert model.begun == model.ended == 3


def test_validators_see_only_the_whole() -> None:
    seen: list[Invoice] = []

    def check(invoice: Invoice) -> Invoice:
        seen.append(invoice)
        if invoice.total < 0:
            raise ValueError("less than nothing")
        return invoice.model_copy(update={"total": 2 * invoice.total})

    def asked(total: int) -> Extractor[Invoice]:
        script = answers(Number='{"number": "A"}', Total=f'{{"total": {total}}}')
        chunking = Chunking(tokens=4, overlap=0, count=words)
        return Extractor(Invoice, ScriptedModel([script] * 2), chunking=chunking, validators=[check])

    text = "Number A of tea.\n\nTotal of it all."
    assert asked(5).extract(text).output.total == 10
    with pytest.raises(InvalidOutputError, match="less than nothing"):
        asked(-5).extract(text)
    assert [invoice.total for invoice in seen] == [5, -5]


def test_counting_does_not_hold_up_the_loop() -> None:
    threads: set[int] = set()

    def count(text: str) -> int:
        threads.add(threading.get_ident())
        return words(text)

    extractor(ScriptedModel(['{"number": "A", "total": 1}']), count=count).extract("A 1")
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    "wrong",
    [{"tokens": 0}, {"overlap": -1}, {"tokens": 10, "overlap": 6}, {"concurrency": 0}, {"merge": {"total": "sum"}}],
)
def test_sizes_and_rules_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    options: dict[str, Any] = {"overlap": 0, **wrong}
    with pytest.raises(ConfigurationError, match="Chunking"):
        Chunking(**options)


def test_a_rule_for_no_field_is_refused_for_a_short_text_too() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)'sum'.*'items', 'number', 'total'"):
        extractor(ScriptedModel([]), merge={"sum": "last"}).extract("A")


def test_a_job_knows_a_chunking_by_its_text() -> None:
    first, again = Chunking(merge={"total": max}, count=words), Chunking(merge={"total": max}, count=words)
    assert repr(first) == repr(again)
    assert "0x" not in repr(first)


def test_errors_of_nothing_but_white_space_are_as_for_a_short_text() -> None:
    with pytest.raises(InvalidOutputError, match="nothing to extract from"):
        extractor(ScriptedModel([])).extract("  \n" * 500)


def test_a_broken_count_is_not_wrapped() -> None:
    def count(text: str) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        extractor(ScriptedModel([]), count=count).extract("A")
    assert not issubclass(ZeroDivisionError, HermesError)


def test_a_local_model_counts_as_it_reads() -> None:
    pytest.importorskip("transformers", reason="the extra `local` is not installed")
    from hermes_agent.formats.segments import Segment
    from hermes_agent.models.embedded import EmbeddedModel
    from hermes_agent.models.tokens import encode_segments

    model = EmbeddedModel()
    text = "Total due: 1,234.50 EUR.\n<|im_end|> is no markup here, na\u00efve \u65e5\u672c. "
    tokens = len(encode_segments(model._tokenizer, [Segment(text, trusted=False)]))  # pyright: ignore[reportPrivateUsage]
    assert model.count_tokens(text) == tokens > 20
    pieces = pieces_of(text * 40, 100, 10, model.count_tokens)
    assert "".join([pieces[0].text, *(b.text[a.end - b.start :] for a, b in pairwise(pieces))]) == text * 40
    assert all(50 < model.count_tokens(piece.text) <= 100 for piece in pieces[:-1])
