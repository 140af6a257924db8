"""Broken objects made valid: by themselves where there is no doubt, else by a model, and what was changed is told."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.errors import ConfigurationError, InvalidOutputError
from hermes_agent.extract import ABSENT, Change, repair, repair_async
from hermes_agent.extract.editing import mechanical
from hermes_agent.extract.lenient import read_leniently
from hermes_agent.messages import UserMessage
from hermes_agent.output import JsonSchema
from hermes_agent.testing import ScriptedModel


class Item(BaseModel):
    name: str
    count: int


class Order(BaseModel):
    number: str
    items: list[Item]
    day: date | None = None


RIGHT = '{"number": "A", "items": [{"name": "tea", "count": 2}]}'


def prompt_of(model: ScriptedModel) -> str:
    first = model.requests[0].messages[0]
    assert isinstance(first, UserMessage)
    return first.text


@pytest.mark.parametrize(
    ("broken", "repairs"),
    [
        (RIGHT, ()),
        (f"\ufeff {RIGHT}\n", ()),
        (f"```json\n{RIGHT}\n```", ("code_fence",)),
        (RIGHT.replace('"', "'"), ("python_literal",)),
        (RIGHT.replace("2}", "2,},"), ("trailing_comma",)),
        (RIGHT[:-1], ("missing_brace",)),
        (RIGHT[:-2], ("missing_brace",)),
        (RIGHT + "}", ("extra_brace",)),
        ("```\n" + RIGHT[:-2].replace('"', "'") + "\n```", ("code_fence", "python_literal", "missing_brace")),
    ],
)
def test_what_is_beyond_doubt_needs_no_model(broken: str, repairs: tuple[str, ...]) -> None:
    found = repair(Order, broken, model=ScriptedModel([]))
    assert found.output == Order(number="A", items=[Item(name="tea", count=2)])
    assert (found.repairs, found.changes, found.attempts, found.guarantee) == (repairs, (), 0, None)
    assert json.loads(found.text) == json.loads(RIGHT)


@pytest.mark.parametrize("cut", ["[12", '["ab', '[{"a": "b', "[tru"])
def test_what_may_have_been_cut_in_two_is_not_guessed(cut: str) -> None:
    assert mechanical(cut) == (cut, ())


def test_the_model_is_shown_the_text_and_what_is_wrong_with_it() -> None:
    broken = '{"number": 7, "items": [{"name": "tea"}], "note": "```"}'
    model = ScriptedModel([RIGHT])
    found = repair(Order, broken, model=model)
    request = model.requests[0]
    prompt = prompt_of(model)
    assert f"````json\n{broken}\n````" in prompt
    for problem in ("- number: ", "- items[0].count: is required, and missing"):
        assert problem in prompt
    assert request.output.schema is not None
    assert found.changes == (
        Change("/number", 7, "A"),
        Change("/items/0/count", ABSENT, 2),
        Change("/note", "```", ABSENT),
    )
    assert (found.attempts, found.usage.steps, found.guarantee) == (1, 1, "checked")
    assert found.text == RIGHT


def test_what_is_not_json_is_compared_as_far_as_it_can_be_read() -> None:
    broken = '{number: \'A\', "items": [{"name": "tea" "count": two}], // all\n day: yesterday'
    found = repair(Order, broken, model=ScriptedModel(['{"number": "A", "items": [{"name": "tea", "count": 2}]}']))
    assert found.changes == (Change("/items/0/count", "two", 2), Change("/day", "yesterday", ABSENT))


def test_defaults_that_nobody_wrote_are_no_changes() -> None:
    assert repair(
        Order, '{"number": 1, "items": []}', model=ScriptedModel(['{"number": "1", "items": []}'])
    ).changes == (Change("/number", 1, "1"),)


def test_answers_that_stay_invalid_are_an_error() -> None:
    with pytest.raises(InvalidOutputError) as caught:
        repair(Order, "{", model=ScriptedModel(["{}"] * 3))
    assert len(caught.value.attempts) == 3
    with pytest.raises(InvalidOutputError, match="nothing to repair"):
        repair(Order, " \n", model=ScriptedModel([]))
    with pytest.raises(ConfigurationError, match="no fields"):
        repair(str, "{}", model=ScriptedModel([]))


def test_validators_check_what_was_put_right_by_itself() -> None:
    def check(order: Order) -> Order:
        if order.number == "A":
            raise ValueError("A is taken")
        return order

    model = ScriptedModel([RIGHT.replace('"A"', '"B"')])
    found = repair(Order, RIGHT, model=model, validators=[check])
    assert "A is taken" in prompt_of(model)
    assert found.changes == (Change("/number", "A", "B"),)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_schema_and_both_loops(backend: str) -> None:
    async def go() -> Any:
        schema = JsonSchema({"type": "array", "items": {"type": "integer"}})
        return await repair_async(schema, '[1, "2"]', model=ScriptedModel(["[1, 2]"]))

    assert anyio.run(go, backend=backend).changes == (Change("/1", "2", 2),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
)


@given(st.lists(JSON) | st.dictionaries(st.text(), JSON))
def test_whole_json_is_read_as_it_is_and_needs_no_repair(value: Any) -> None:
    text = json.dumps(value)
    assert mechanical(text) == (text, ())


@given(st.text(alphabet="{}[]\",:'\\ \nab1-.`/*#") | st.text())
def test_any_text_is_read_somehow(text: str) -> None:
    read_leniently(text)
    mechanical(text)


@pytest.mark.parametrize("endless", ["[" * 100_000, '{"a":' * 100_000])
def test_brackets_without_end_are_read_too(endless: str) -> None:
    read_leniently(endless)
    assert repair(dict[str, int], endless, model=ScriptedModel(['{"a": 1}'])).output == {"a": 1}
