"""Functions that check the answer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from hermes_agent import Agent, Retry, RunContext
from hermes_agent.errors import ConfigurationError, InvalidOutputError
from hermes_agent.messages import ToolMessage
from hermes_agent.pause import PausedRun
from hermes_agent.testing import ScriptedModel

pytestmark = pytest.mark.anyio


class Report(BaseModel):
    city: str
    degrees: int


GOOD, COLD = '{"city": "Oslo", "degrees": 7}', '{"city": "Oslo", "degrees": -300}'


def told(messages: Any) -> list[str]:
    return [m.content for m in messages if isinstance(m, ToolMessage)]


def physical(report: Report) -> Report:
    if report.degrees < -273:
        raise Retry("Nothing is colder than -273 degrees.")
    return report


async def known(context: RunContext[set[str]], report: Report) -> None:
    if report.city not in context.deps:
        raise ValueError(f"{report.city!r} is not a city we know")


def shouted(report: Report) -> Report:
    return report.model_copy(update={"city": report.city.upper()})


async def test_validators_run_in_order_and_what_they_say_is_told() -> None:
    model = ScriptedModel([COLD, '{"city": "Bree", "degrees": 7}', GOOD])
    agent = Agent(model, output=Report, validators=[physical, known, shouted], deps_type=set[str])
    result = await agent.run("?", deps={"Oslo"})
    assert result.output == Report(city="OSLO", degrees=7)
    assert told(result.messages) == [
        "Nothing is colder than -273 degrees.\nPlease answer again.",
        "'Bree' is not a city we know\nPlease answer again.",
    ]


async def test_they_are_bounded_by_the_corrections() -> None:
    with pytest.raises(InvalidOutputError, match=r"kept failing.*-273") as caught:
        await Agent(ScriptedModel([COLD] * 9), output=Report, validators=[physical]).run("?")
    assert caught.value.attempts == (COLD,) * 4


async def test_what_else_they_raise_ends_the_run() -> None:
    def broken(report: Report) -> Report:
        raise KeyError("table")

    with pytest.raises(InvalidOutputError, match="a validator of the output raised KeyError") as caught:
        await Agent(ScriptedModel([GOOD]), output=Report, validators=[broken]).run("?")
    assert isinstance(caught.value.__cause__, KeyError)


async def test_answers_in_words_are_checked_too() -> None:
    def polite(text: str) -> None:
        if "please" not in text:
            raise Retry("Say please.")

    result = await Agent(ScriptedModel(["Go.", "Go, please."]), validators=[polite]).run("?")
    assert result.output == "Go, please."


async def test_one_that_knows_partial_values_is_shown_them_and_only_it() -> None:
    whole: list[Report] = []
    seen: list[tuple[Report, bool]] = []

    def only_whole(report: Report) -> None:
        whole.append(report)

    def both(report: Report, *, partial: bool) -> Report:
        seen.append((report, partial))
        if partial and report.degrees is None:  # pyright: ignore[reportUnnecessaryComparison]  # in a partial value it may be
            raise Retry("not yet")
        return report.model_copy(update={"city": report.city.upper()})

    agent = Agent(ScriptedModel([GOOD], chunk_size=4), output=Report, validators=[only_whole, both])
    async with agent.stream("?") as stream:
        partials = [value async for value in stream.partials()]
    assert partials  # and none before there were degrees
    assert all(value == Report(city="OSLO", degrees=7) for value in partials)
    assert whole == [Report(city="Oslo", degrees=7)]
    assert [partial for _, partial in seen].count(False) == 1
    assert len(seen) > 2


async def test_what_a_validator_meets_is_told_without_secrets() -> None:
    def connects(report: Report) -> None:
        raise ValueError("no answer from postgresql://app:hunter2@db/x")

    with pytest.raises(InvalidOutputError) as caught:
        await Agent(ScriptedModel([GOOD] * 9), output=Report, validators=[connects]).run("?")
    assert "no answer from postgresql://app:" in told(caught.value.messages)[0]
    assert "hunter2" not in str(list(caught.value.messages))


async def test_a_run_that_has_ended_asks_for_no_other_answer() -> None:
    strict = False

    def fresh(report: Report) -> None:
        if strict:
            raise ValueError("too old")

    model = ScriptedModel([GOOD, GOOD])
    agent = Agent(model, output=Report, validators=[fresh])
    result = await agent.run("?")
    strict = True
    with pytest.raises(InvalidOutputError, match="not accepted any more: too old"):
        await agent.resume(PausedRun(result.run_id, result.records))
    assert len(model.requests) == 1


async def test_a_mistake_with_a_partial_value_names_the_value() -> None:
    def careless(report: Report, *, partial: bool) -> None:
        if report.degrees + 1 < 0:
            raise Retry("cold")

    agent = Agent(ScriptedModel([GOOD], chunk_size=4), output=Report, validators=[careless])
    with pytest.raises(InvalidOutputError, match=r"on a partial value.*None"):
        async with agent.stream("?") as stream:
            [value async for value in stream.partials()]


def test_what_cannot_check_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3, which is no function"):
        Agent(validators=[3])  # type: ignore[list-item]  # that is what is tested
    with pytest.raises(ConfigurationError, match="takes no answer"):
        Agent(validators=[lambda: None])
