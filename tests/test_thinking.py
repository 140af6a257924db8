"""A thought has a budget: on real vocabularies, with weights that would think for ever."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import pytest

from hermes_agent.formats import parse
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.models.local import LocalModel
from hermes_agent.models.thinking import ThoughtBudget
from hermes_agent.reasoning import Reasoning
from hermes_agent.sampling import Sampling
from tests.test_local import book, tiny, turn

TAGS = ("<think>", "</think>")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["qwen3", "llama3_1"])
def any_model(request: pytest.FixtureRequest) -> LocalModel:
    return tiny(request.param)


def ended_after(budget: ThoughtBudget, pieces: Iterable[str]) -> int | None:
    """How many pieces were written when the block had to end."""
    return next((count for count, piece in enumerate(pieces, 1) if budget.push(piece)), None)


def test_the_budget_counts_tokens_inside_the_block_only() -> None:
    assert ended_after(ThoughtBudget(4, TAGS), ["<th", "ink>", "\n", "a", " b", " c", " d"]) == 6
    assert ended_after(ThoughtBudget(4, TAGS), ["\n", "<think>", *"abcd"]) == 6
    assert ended_after(ThoughtBudget(4, TAGS, opened=True), "abcdef") == 4


def test_a_turn_that_does_not_think_has_no_budget() -> None:
    budget = ThoughtBudget(1, TAGS)
    assert ended_after(budget, ["<thin", "g>", *"abcdef"]) is None
    assert budget.used == 0


def test_a_thought_that_ends_by_itself_is_not_cut() -> None:
    budget = ThoughtBudget(6, TAGS)
    assert ended_after(budget, ["<think>", "a", "</th", "ink>", *"abcdefgh"]) is None
    assert (budget.used, budget.cut) == (3, False)


@pytest.mark.parametrize("end", ["so.", "so!", "so?", 'so."', "so.)", "so\n", "so。"])
def test_the_end_of_a_sentence_shortly_before_the_budget_ends_the_block(end: str) -> None:
    assert ended_after(ThoughtBudget(80, TAGS, opened=True), ["a."] + [" a"] * 73 + [end] + [" a"] * 20) == 75


def test_a_point_in_a_number_is_no_end_of_a_sentence() -> None:
    assert ended_after(ThoughtBudget(80, TAGS, opened=True), [" a"] * 74 + ["3", ".", "1"] + [" a"] * 20) == 80


def test_what_closes_the_block_begins_a_line() -> None:
    for pieces, closing in (["a"], "\n</think>"), (["a\n"], "</think>"):
        budget = ThoughtBudget(1, TAGS, opened=True)
        assert ended_after(budget, pieces) == 1
        assert budget.closing == closing


def test_a_tag_is_closed_in_its_own_letters_and_found_in_any() -> None:
    budget = ThoughtBudget(2, ("<THOUGHT>", "</THOUGHT>"))
    assert ended_after(budget, ["<Thought>", "a", "b"]) == 3
    assert budget.closing == "\n</THOUGHT>"


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(3))
async def test_a_budget_ends_the_thought_and_the_turn_goes_on(any_model: LocalModel, seed: int) -> None:
    grammar = TurnGrammar([book], tool_choice="required", parallel=False, reasoning="on")
    text, last = await turn(
        any_model, grammar=grammar, reasoning=Reasoning("on", max_tokens=20),
        sampling=Sampling(temperature=1.0, seed=seed), max_tokens=400,
    )  # fmt: skip
    read = parse(text, tools=[book])
    assert grammar.accepts(text)
    assert len(read.tool_calls) == 1
    assert not read.faults
    assert last.finish_reason == "stop"
    assert last.thought_cut
    # A character of several tokens is written to its end.
    assert 18 <= last.thinking_tokens <= 23


@pytest.mark.anyio
async def test_a_budget_ends_a_thought_that_nothing_constrains(any_model: LocalModel) -> None:
    text, last = await turn(
        any_model, reasoning=Reasoning("on", max_tokens=10), prefix="<think>\nWell", max_tokens=60,
    )  # fmt: skip
    assert last.thought_cut
    assert 9 <= last.thinking_tokens <= 13
    thought, closed, _ = text.partition("</think>")
    assert closed
    assert thought.endswith("\n")


@pytest.mark.anyio
async def test_without_a_budget_half_of_the_turn_is_left_for_the_answer(any_model: LocalModel) -> None:
    grammar = TurnGrammar((), bool, reasoning="on")
    text, last = await turn(any_model, grammar=grammar, reasoning=Reasoning("on"), max_tokens=64)
    assert grammar.accepts(text)
    assert last.finish_reason == "stop"
    assert last.thinking_tokens <= 35


@pytest.mark.anyio
async def test_a_turn_is_taken_up_inside_its_thought_and_behind_it(any_model: LocalModel) -> None:
    def stay(city: Literal["Oslo", "Rome"], breakfast: bool = False) -> str:
        """Book a room."""
        return city

    # Nothing in it but the thought is as long as the model likes, so that every turn comes to its end.
    grammar = TurnGrammar([stay], bool, reasoning="on", parallel=False)
    text, _ = await turn(
        any_model, grammar=grammar.in_thought(), reasoning=Reasoning("on", max_tokens=12),
        prefix="<think>\nLet me see", max_tokens=300,
    )  # fmt: skip
    assert grammar.accepts("<think>\nLet me see" + text)
    text, _ = await turn(
        any_model, grammar=grammar.after_thought(), reasoning=Reasoning("on"),
        prefix="<think>\nIt is so.\n</think>\n", max_tokens=300,
    )  # fmt: skip
    assert grammar.accepts("<think>\nIt is so.\n</think>\n" + text)
