"""One text: what an extractor is given, and what it makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from hermes_agent.errors import ConfigurationError, InvalidOutputError
from hermes_agent.extract import Extractor, extract, extract_async, infer, repair
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.messages import AssistantMessage
from hermes_agent.testing import ScriptedModel


class Invoice(BaseModel):
    number: str
    total: float


def test_what_is_no_text_is_said_before_a_model_is_asked() -> None:
    extractor, wrong = Extractor(Invoice, ScriptedModel([])), "is b'total 5', which is not a str"
    text: Any = b"total 5"
    asked: list[Callable[[], object]] = [
        lambda: extract(Invoice, text, model=ScriptedModel([]), on_error="return"),
        lambda: extractor.extract(text),
        lambda: anyio.run(streamed, extractor, text),
        lambda: repair(Invoice, text),
    ]
    for ask in asked:
        with pytest.raises(ConfigurationError, match=wrong):
            ask()


async def streamed(extractor: Extractor[Any], text: str) -> None:
    async with extractor.stream(text) as stream:
        async for _ in stream:
            pass


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_asks_no_model_whichever_way_it_is_given(text: str) -> None:
    extractor = Extractor(Invoice, ScriptedModel([]))
    with pytest.raises(InvalidOutputError, match="nothing to extract from"):
        extractor.extract(text)
    with pytest.raises(InvalidOutputError, match="nothing to extract from"):
        anyio.run(streamed, extractor, text)
    assert isinstance(extract(Invoice, text, model=ScriptedModel([]), on_error="return"), InvalidOutputError)


def test_what_to_do_with_errors_is_one_of_two_things() -> None:
    wrong: Any = "ignore"
    with pytest.raises(ConfigurationError, match="on_error='ignore'"):
        extract(Invoice, "text", model=ScriptedModel([]), on_error=wrong)
    with pytest.raises(ConfigurationError, match="on_error='ignore'"):
        anyio.run(lambda: extract_async(Invoice, "text", model=ScriptedModel([]), on_error=wrong))
    with pytest.raises(ConfigurationError, match="on_error='ignore'"):
        Extractor(Invoice, ScriptedModel([]), on_error=wrong)


@pytest.mark.parametrize(
    "output",
    [
        Invoice,
        {"type": "object", "properties": {"number": {"type": "string"}, "total": {"type": "number"}}},
        infer([{"number": "A", "total": 1.5}]),
    ],
)
def test_a_worked_text_shows_what_the_grammar_allows(output: Any) -> None:
    """Fields in another order than the model may write them would teach it what the mask then forbids.

    A value may be as JSON has it, since worked texts may come out of a file.
    """
    model = ScriptedModel(['{"number": "B-2", "total": 3}'])
    extractor = Extractor(output, model, examples=[("Invoice A-7: 5", {"total": 5, "number": "A-7"})])
    extractor.extract("Invoice B-2: 3")
    shown = next(m.text for m in model.requests[0].messages if isinstance(m, AssistantMessage))
    assert json.loads(shown) == {"number": "A-7", "total": 5}
    assert TurnGrammar((), extractor.output).accepts(shown)


@pytest.mark.parametrize("output", [Invoice, list[Invoice], infer([{"number": "A", "total": 1.5}])])
def test_a_worked_text_that_does_not_fit_is_refused(output: Any) -> None:
    values: list[Any] = [{"number": "A-7", "total": "much"}, {"number": "A-7"}, [{}], 5, object()]
    for wrong in values:
        with pytest.raises(ConfigurationError, match="the example for 'Invoice A-7' is no"):
            Extractor(output, ScriptedModel([]), examples=[("Invoice A-7", wrong)])


def test_every_public_name_is_there() -> None:
    package = import_module("hermes_agent.extract")  # the attribute of that name is the function
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
    assert {"infer", "repair"} < set(package.__all__)
    import_module("hermes_agent.extract.samples")
    assert package.infer is infer
