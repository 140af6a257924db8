"""Items of a list as they close: each once, and together the list of the answer."""

from __future__ import annotations

import json
from typing import Any, assert_type

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from hermes_agent import Agent
from hermes_agent.errors import ConfigurationError, InvalidOutputError
from hermes_agent.events import TextDelta
from hermes_agent.extract import Extractor
from hermes_agent.output import JsonSchema
from hermes_agent.testing import ScriptedModel


class Item(BaseModel):
    name: str
    tags: list[str] = []


class Order(BaseModel):
    number: str
    items: list[Item] = Field(default=[Item(name="none")], alias="lines")
    note: str | None = None


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"number": {"type": "string"}, "lines": {"type": "array", "items": {"$ref": "#/$defs/Item"}}},
    "$defs": {"Item": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}


async def items_of(spec: Any, turns: list[str], path: str, chunk: int | None = 1, **settings: Any) -> list[Any]:
    found: list[Any] = []
    extractor = Extractor(spec, ScriptedModel(turns, chunk_size=chunk), **settings)
    async with extractor.stream("text") as stream:
        async for item in stream.items(path):
            found.append(item)  # noqa: PERF401  # kept if the iteration raises
        output: Any = stream.result.output
        whole: Any = output
        if path:
            whole = output["lines"] if isinstance(spec, JsonSchema) else output.items
        assert found == whole
    return found


def order_of(number: str, names: list[str]) -> dict[str, Any]:
    return {"number": number, "lines": [{"name": name, "tags": [name]} for name in names]}


ORDERS = st.builds(order_of, st.text(max_size=5), st.lists(st.text(max_size=8), max_size=6))


@given(order=ORDERS, chunk=st.integers(1, 20) | st.none(), plain=st.booleans())
def test_items_are_the_list_of_the_answer_in_any_chunks(order: Any, chunk: int | None, plain: bool) -> None:
    spec: Any = JsonSchema(SCHEMA) if plain else Order
    found = anyio.run(items_of, spec, [json.dumps(order)], "lines", chunk)
    names = [item["name"] if plain else item.name for item in found]
    assert names == [item["name"] for item in order["lines"]]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("spec", [list[Item], JsonSchema({"type": "array", "items": {"type": "object"}})])
def test_an_item_comes_as_soon_as_it_is_closed(spec: Any, backend: str) -> None:
    text = '[{"name": "tea"}, {"name": "milk"}]'

    async def go() -> list[int]:
        read = 0
        at: list[int] = []
        async with Extractor(spec, ScriptedModel([text], chunk_size=1)).stream("x") as stream:
            take = stream.take

            async def counting(*, partial_outputs: bool) -> Any:
                nonlocal read
                event = await take(partial_outputs=partial_outputs)
                read += len(event.text) if isinstance(event, TextDelta) else 0
                return event

            stream.take = counting  # type: ignore[method-assign]  # to see how far it has read
            async for _ in stream.items():
                at.append(read)  # noqa: PERF401  # see above
        return at

    assert anyio.run(go, backend=backend) == [text.index("}") + 1, len(text) - 1]


def test_an_item_is_of_the_type_of_the_list() -> None:
    async def go() -> None:
        async with Agent(ScriptedModel(["[1, 2]"]), output=list[int]).stream("x") as stream:
            async for item in stream.items():
                assert_type(item, int)

    anyio.run(go)


def test_a_turn_that_is_corrected_does_not_tell_its_items_again() -> None:
    turns = [
        '{"number": 7, "lines": [{"name": "tea"}]}',
        '{"number": "7", "lines": [{"name": "tea"}, {"name": "oil"}]}',
    ]
    assert [item.name for item in anyio.run(items_of, Order, turns, "/lines")] == ["tea", "oil"]


@pytest.mark.parametrize("second", ['[{"name": "milk"}]', "[]"])
def test_an_item_that_is_not_in_the_answer_is_an_error(second: str) -> None:
    turns = ['{"number": 7, "lines": [{"name": "tea"}]}', f'{{"number": "7", "lines": {second}}}']
    with pytest.raises(InvalidOutputError, match="item 0 was told as Item"):
        anyio.run(items_of, Order, [turns[0].replace("7, ", '"7", ')[:-1] + ', "note": 7}', turns[1]], "lines")


def test_an_item_that_is_not_valid_is_not_told() -> None:
    turns = ['{"number": "7", "lines": [{"name": "tea"}, {"name": 7}]}', '{"number": "7", "lines": [{"name": "tea"}]}']
    for spec in (Order, JsonSchema(SCHEMA)):
        assert len(anyio.run(items_of, spec, turns, "lines")) == 1


def test_a_default_is_told_only_at_the_end() -> None:
    assert anyio.run(items_of, Order, ['{"number": "7"}'], "lines") == [Item(name="none")]


def test_items_begun_in_the_middle_are_all_the_items() -> None:
    async def go() -> list[int]:
        async with Agent(ScriptedModel(["[1, 2, 3]"], chunk_size=1), output=list[int]).stream("x") as stream:
            async for value in stream.partials():
                if len(value) == 2:
                    break
            return [item async for item in stream.items()]

    assert anyio.run(go) == [1, 2, 3]


def test_what_has_no_items_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no list at 'number'"):
        anyio.run(items_of, Order, ['{"number": "7"}'], "number")

    async def text() -> None:
        async with Agent(ScriptedModel(["Hi"])).stream("x") as stream:
            stream.items("x")

    with pytest.raises(ConfigurationError, match="'str' has no items"):
        anyio.run(text)
