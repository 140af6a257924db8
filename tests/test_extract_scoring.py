from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.extract.agreement import compare, field_name
from hermes_agent.extract.estimate import Counts, share
from hermes_agent.extract.inputs import read_rows
from hermes_agent.extract.scoring import score

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0, "", " ", "a", "A b", "b"])
KEYS = st.sampled_from(["a", "b", "c.d", "[]", ""])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)


def rows(values: list[Any], name: str = "gold") -> list[dict[str, Any]]:
    return [{"id": number, name: value} for number, value in enumerate(values)]


def shuffled(value: Any, draw: random.Random) -> Any:
    """The same value, lists and keys in another order."""
    if isinstance(value, list):
        items = [shuffled(item, draw) for item in cast("Sequence[Any]", value)]
        return draw.sample(items, len(items))
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: shuffled(members[key], draw) for key in draw.sample(list(members), len(members))}
    return value


@given(st.lists(VALUES, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_right_answer_scores_one_everywhere(values: list[Any]) -> None:
    found = score(rows(values), rows(values, "output"))
    assert found.exact.value == found.macro_f1 == 1
    for measure in (found.overall, *found.fields.values()):
        assert measure.precision.value == measure.recall.value == measure.f1.value == measure.f1.high == 1
        assert measure.hits == measure.gold == measure.said
    assert found.worst == ()


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_no_order_changes_anything(values: list[tuple[Any, Any]], draw: random.Random) -> None:
    gold, out = rows([a for a, _ in values]), rows([b for _, b in values], "output")
    found = score(gold, out)
    again = score(shuffled(gold, draw), shuffled(out, draw))
    assert found.fields == again.fields
    assert (found.overall, found.exact, found.macro_f1) == (again.overall, again.exact, again.macro_f1)
    assert sorted(row.f1 for row in found.worst) == sorted(row.f1 for row in again.worst)


@given(VALUES, VALUES)
@settings(max_examples=150, deadline=None)
def test_agreement_is_a_part_of_both_and_the_same_from_both_sides(a: Any, b: Any) -> None:
    found, turned = compare(a, b), compare(b, a)
    assert found.hits <= found.gold
    assert found.hits <= found.said
    assert found.hits.total() == turned.hits.total()
    assert (found.gold, found.said) == (turned.said, turned.gold)


@given(*[st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), max_size=4)] * 2)
@settings(max_examples=100, deadline=None)
def test_objects_of_lists_are_paired_as_well_as_can_be(a: list[dict[str, int]], b: list[dict[str, int]]) -> None:
    few, many = sorted((a, b), key=len)
    best = max(
        sum(len(x.items() & y.items()) for x, y in zip(few, order, strict=False))
        for order in itertools.permutations(many)
    )
    assert compare({"l": a}, {"l": b}).hits.total() == best


def test_long_lists_of_objects_are_paired_too() -> None:
    a = [{"n": n, "kind": "x"} for n in range(90)]
    b = [{"n": n, "kind": "y"} for n in reversed(range(10, 100))]
    assert compare(a, b).hits.total() == 80
    assert compare(a, a[::-1]).exact


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0), ("a  b", " a b\n"), (None, {}), ([], None), ("", None), ({"a": []}, {}),
        ([{"a": 1}, {}], [{"a": 1.0}]),
        ([1, 1, "x"], ["x", 1, 1]), (float("nan"), float("nan")), ({"a": {"b": None}}, []),
    ],
)  # fmt: skip
def test_these_are_the_same(a: Any, b: Any) -> None:
    assert compare(a, b).exact


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, True), (0, False), (1, "1"), ("a", "A"), ([1, 1], [1]), (["a"], "a"),
     ([{"a": 1}, {"b": 2}], [{"a": 1, "b": 2}]),
     ([True], [1]), ({"a": 1}, {"b": 1}), ([[1], [2]], [[1, 2]])],
)  # fmt: skip
def test_these_are_not(a: Any, b: Any) -> None:
    assert not compare(a, b).exact
    assert not compare(b, a).exact


def test_case_counts_unless_it_should_not() -> None:
    assert compare("Straße", "STRASSE", casefold=True).exact
    assert score([{"gold": "A"}], [{"output": "a"}], casefold=True).exact.value == 1


def test_an_example_by_hand() -> None:
    gold = rows([{"n": "x", "t": ["a", "b"]}, {"n": "y", "t": []}, {"n": "z", "t": ["c"]}, {"n": "w", "t": ["d"]}])
    out = [
        {"id": 0, "output": {"n": "x", "t": ["b", "q"]}},
        {"id": 1, "output": {"n": "y"}},
        {"id": 2, "error": {"type": "InvalidOutputError"}},
        {"id": 9, "output": {"n": "?"}},
    ]
    found = score(gold, out)
    assert (found.rows, found.missing, found.failed, found.unknown) == (4, 1, 1, 1)
    assert found.ids == {"missing": ("3",), "failed": ("2",), "unknown": ("9",)}
    assert found.exact.value == 1 / 4
    # hits x, b, y; gold x a b y z c w d; said x b q y
    assert (found.overall.hits, found.overall.gold, found.overall.said) == (3, 8, 4)
    assert found.overall.precision.value == 3 / 4
    assert found.overall.recall.value == 3 / 8
    assert found.overall.f1.value == 6 / 12
    assert (found.fields["n"].precision.value, found.fields["n"].recall.value) == (1, 2 / 4)
    assert found.fields["t"].f1.value == 2 / 6
    assert found.macro_f1 == pytest.approx((4 / 6 + 2 / 6) / 2)
    (worst,) = found.worst
    assert (worst.id, worst.f1, worst.missed, worst.extra) == ("0", 4 / 6, (("t", "a"),), (("t", "q"),))


def test_ids_that_come_twice_are_paired_in_order() -> None:
    gold = [{"id": "a", "gold": 1}, {"id": "a", "gold": 2}, {"id": "b", "gold": 3}, {"id": "a", "gold": 4}]
    out = [{"id": "b", "output": 3}, {"id": "a", "output": 1}, {"id": "a", "output": 2}, {"id": "a", "output": 4}]
    assert score(gold, out).exact.value == 1
    assert score(gold, out[:3]).missing == 1
    assert score(gold[:3], out).unknown == 1


@pytest.mark.parametrize("name", ["a", "", "\ud800", None, 7, -0, 1.0, True, [1], {"x": "y"}])
def test_a_row_is_called_what_a_job_calls_it(name: Any) -> None:
    (row,) = read_rows([{"id": name, "text": "a text"}])
    found = score([{"id": name, "gold": {"a": 1}}], [{"id": row.id, "output": {"a": 1}}])
    assert (found.missing, found.unknown, found.exact.value) == (0, 0, 1.0)


def test_the_worst_rows_come_first() -> None:
    gold = rows([list("abcdefgh"[:n]) for n in range(1, 8)])
    out = rows([["a"]] * 7, "output")
    found = score(gold, out, worst=2)
    assert [row.id for row in found.worst] == ["6", "5"]
    assert score(gold, out, worst=0).worst == ()


def test_fields_have_readable_names() -> None:
    gold = {"lines": [{"a.b": 1, "[]": 2}], "x": {"y": 3}}
    assert set(score([{"gold": gold}], [{"output": gold}]).fields) == {'lines[]."a.b"', 'lines[]." []"', "x.y"}
    assert field_name(()) == "(value)"


def test_files_in_any_order_are_read_as_rows_are(tmp_path: Path) -> None:
    draw = random.Random(3)
    gold = rows([{"n": n % 7, "é": ["ü"]} for n in range(300)])
    out = rows([{"n": n % 5, "é": ["ü"]} for n in range(20, 310)], "output")
    for row in out:
        row["id"] += 20
    draw.shuffle(out)
    for name, lines in (("gold", gold), ("out", out)):
        text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    found = score(tmp_path / "gold", str(tmp_path / "out"))
    assert (found.missing, found.unknown) == (20, 10)
    again = score(gold, out)
    assert (found.overall, found.fields, found.exact) == (again.overall, again.fields, again.exact)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no rows"), (b"\n \n", "holds no rows"), (b"PAR1\x00", "Parquet"), (b"SQLite format 3\0", "SQLite"),
        (b'{"id": 1, "gold": 1}\n{"id": 2, "go', "line 2"), (b'{"id": 1, "gold": "\xff"}\n', "line 1"),
        (b"[1]\n", "no object"), (b'{"id": 1, "answer": 1}\n', "'answer'"), (b"[" * 100_000 + b"\n", "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_told(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "gold").write_bytes(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        score(tmp_path / "gold", [])
    assert repr(str(tmp_path / "gold"))[1:-1] in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot read"):
        score(tmp_path / "none", [])


def test_rows_that_are_no_output_and_bad_settings_are_told() -> None:
    with pytest.raises(ConfigurationError, match="no 'output' and no 'error'"):
        score([{"gold": 1}], [{"gold": 1}])
    rows: list[Any] = [{"gold": 1}, 5]
    with pytest.raises(ConfigurationError, match="row 1 is no object but 5"):
        score(rows, [{"output": 1}])
    with pytest.raises(ConfigurationError, match="confidence"):
        score([{"gold": 1}], [], confidence=1.0)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="nested too deep"):
        score([{"gold": deep}], [{"output": 1}])


def test_intervals_stay_within_bounds_and_are_never_a_point() -> None:
    for hits in (0, 5, 10):
        found = share(hits, 10, 0.95)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high
    counts = Counts()
    counts.add(0, 0, 0)
    assert counts.rows == 0
    assert counts.f1(0.95).value == 1
    counts.add(2, 2, 2)
    assert counts.f1(0.95).low < 1
    narrow, wide = share(5, 10, 0.5), share(5, 10, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Rows whose values are right or wrong together: intervals that took values for independent would be too narrow."""
    draw = random.Random(7)

    def row() -> tuple[int, int, int]:
        skill = draw.choice([0.1, 0.6, 0.95])
        gold = draw.randint(1, 8)
        hits = sum(draw.random() < skill for _ in range(gold))
        return hits, gold, hits + (draw.randint(0, 3) if skill < 0.9 else 0)

    truth = [sum(column) for column in zip(*(row() for _ in range(60_000)), strict=True)]
    held = {"precision": 0, "recall": 0, "f1": 0}
    rounds = 400
    for _ in range(rounds):
        counts = Counts()
        for _ in range(60):
            counts.add(*row())
        hits, gold, said = truth
        for name, value in (("precision", hits / said), ("recall", hits / gold), ("f1", 2 * hits / (gold + said))):
            found = getattr(counts, name)(0.95)
            held[name] += found.low <= value <= found.high
    assert all(0.92 <= count / rounds <= 0.985 for count in held.values()), held
