"""Where values stand: what is said to stand somewhere does stand there."""

from __future__ import annotations

import time
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.extract import Extractor
from hermes_agent.extract.evidence import dates_of, evidence_of, normalise, numbers_of
from hermes_agent.testing import ScriptedModel

ALPHABET = st.sampled_from(
    list(
        "aAbBzß\u00e9e\u0301\u00c5\u212b\ufb01fi \t\n\u00a0-\u2013'\u201912.,\u65e5\u672c\u1100\u1161\u0130\u03a3\u03c2"
    )
)
TEXT = st.text(ALPHABET, max_size=60) | st.text(max_size=40)


@settings(max_examples=300, deadline=None)
@given(text=TEXT, data=st.data())
def test_what_is_said_to_stand_there_stands_there(text: str, data: st.DataObject) -> None:
    parts = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda at: text[at[0] : at[0] + at[1]])
    values: list[str] = data.draw(st.lists(parts | parts.map(str.upper) | TEXT, max_size=6))
    found = evidence_of(values, text)
    for place, (start, end) in found.items():
        value = values[int(place[1:])]
        assert 0 <= start < end <= len(text)
        assert normalise(text[start:end]) == normalise(value)


@given(words=st.lists(st.text(st.characters(categories=["Ll", "Lu"]), min_size=2, max_size=6), min_size=1, max_size=8))
def test_a_word_of_the_text_is_found_in_any_case(words: list[str]) -> None:
    text = " ,\n ".join(words)
    found = evidence_of([word.upper() for word in words], text)
    for index, word in enumerate(words):
        if normalise(word.upper()) == normalise(word):
            assert f"/{index}" in found


def spans(value: Any, text: str) -> dict[str, str]:
    return {place: text[start:end] for place, (start, end) in evidence_of(value, text).items()}


@pytest.mark.parametrize(
    ("value", "text", "there"),
    [
        ("Ann", "Annette and Ann", "Ann"),
        ("art", "a party", None),
        ("Miller & Sons", "MILLER  &\n Sons, Ltd", "MILLER  &\n Sons"),
        ("deficits", "Information de\ufb01cits in", "de\ufb01cits"),
        ("caf\u00e9", "the cafe\u0301 there", "cafe\u0301"),
        ("Jane's", "at Jane\u2019s", "Jane\u2019s"),
        ("\u6771\u4eac", "\u79c1\u306f\u6771\u4eac\u306b", "\u6771\u4eac"),
        ("STRASSE", "die Stra\u00dfe", "Stra\u00dfe"),
        (1234.5, "sum 1,234.50 EUR", "1,234.50"),
        (1234.5, "sum 1.234,50 EUR", "1.234,50"),
        (1234.5, "sum 1\u202f234,5 EUR", "1\u202f234,5"),
        (1234567, "CHF 1'234'567.00", "1'234'567.00"),
        (1234, "1,234 of them", "1,234"),
        (1.234, "1,234 of them", "1,234"),
        (12, "12.00", "12.00"),
        (9, "RM9.00", "9.00"),
        (456, "columns 123 456 789", "456"),
        (123456789, "sum 123 456 789", "123 456 789"),
        (5, "1250 and 2.5", None),
        (5, "-5 degrees", None),
        (-5, "\u22125 degrees", "\u22125"),
        (5, "2003-5", "5"),
        (0.0000001, "p = 1e-7", "1e-7"),
        ("1234.50", "1,234.5", "1,234.5"),
        ("2018-12-25", "on 25/12/2018 at", "25/12/2018"),
        ("2018-12-25", "12/25/2018", "12/25/2018"),
        ("2018-04-03", "03/04/2018", None),
        ("2018-04-04", "04.04.2018", "04.04.2018"),
        ("2026-03-15", "due March 15th, 2026.", "March 15th, 2026"),
        ("2026-03-15", "due 15 Mar 2026", "15 Mar 2026"),
        ("2026-03-05", "2026/3/5", "2026/3/5"),
        (True, "True", None),
        (None, "null", None),
        ("", "x", None),
        (float("1e300"), "x", None),
    ],
)
def test_a_value_is_found_as_it_may_be_written(value: Any, text: str, there: str | None) -> None:
    assert spans(value, text) == ({} if there is None else {"": there})
    if there is not None and isinstance(value, int | float):
        assert Decimal(repr(value)) in numbers_of(there)
    if there is not None and str(value)[4:5] == "-":
        assert dates_of(there) == {value}


def test_a_text_inside_of_words_alone_costs_little() -> None:
    began = time.process_time()
    assert evidence_of(["ab" * n for n in range(1, 100)], "ab" * 500_000) == {}
    assert time.process_time() - began < 4


def test_equal_items_have_one_place_after_the_other() -> None:
    text = "tea, milk, tea, TEA"
    assert evidence_of({"a": ["tea", "tea", "tea", "tea"], "b": "tea"}, text) == {
        "/a/0": (0, 3),
        "/a/1": (11, 14),
        "/a/2": (16, 19),
        "/a/3": (16, 19),  # no more of them
        "/b": (0, 3),
    }
    rows = {"rows": [{"name": "tea", "price": 2}, {"name": "tea", "price": 2}]}
    assert evidence_of(rows, "tea 2.00 tea 2.00") == {
        "/rows/0/name": (0, 3),
        "/rows/0/price": (4, 8),
        "/rows/1/name": (9, 12),
        "/rows/1/price": (13, 17),
    }


@given(
    st.lists(st.sampled_from([1, 5, 12, 20, 234, 9.5, 100.25, 1000]), min_size=1, max_size=6), st.sampled_from(" \n")
)
def test_numbers_side_by_side_are_all_found(numbers: list[int | float], between: str) -> None:
    """Such as the columns of a receipt; with a space, ``20 100.25`` may as well be one number."""
    text = between.join(f"{number:.2f}" if isinstance(number, float) else str(number) for number in numbers)
    assert len(spans(numbers, text)) == len(numbers)
    assert spans([20, 100.25, 7], "20 100.25 7") == {"/0": "20", "/1": "100.25", "/2": "7"}


def test_names_are_escaped_in_pointers() -> None:
    assert evidence_of({"a/b": {"c~d": "x"}}, "x") == {"/a~1b/c~0d": (0, 1)}


class Invoice(BaseModel):
    number: str
    due: date
    total: Decimal


def test_an_extractor_says_where_its_values_stand() -> None:
    model = ScriptedModel(['{"number": "A-7", "due": "2026-03-15", "total": "12.50"}'])
    text = "Invoice a-7, due on 15 March 2026: EUR 12.5"
    found = Extractor(Invoice, model, evidence=True).extract(text)
    assert {place: text[start:end] for place, (start, end) in found.evidence.items()} == {
        "/number": "a-7",
        "/due": "15 March 2026",
        "/total": "12.5",
    }


@pytest.mark.parametrize("filler", ["The quick brown fox. ", "\u65e5\u672c\u8a9e ", "na\u00efve caf\u00e9 12 ", "a"])
def test_a_thousand_values_in_a_long_text(filler: str) -> None:
    text = filler * (300_000 // len(filler))
    values = [*(f"value {n}" for n in range(500)), *range(1000, 1500)]
    began = time.process_time()
    assert evidence_of(values, f"{text} Value  499 and 1499") != {}
    assert time.process_time() - began < 6
