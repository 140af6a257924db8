"""The real embedded model, three tools, fifteen questions: every turn valid, nearly every tool right."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_agent import Agent, Example, Limits, Sampling
from hermes_agent.events import StepFinished
from hermes_agent.toolbox import calculator, clock
from hermes_agent.turn import Turn

DEMO = Path(__file__).parent.parent / "examples" / "demo"

QUESTIONS = {
    "What is 17 times 23?": "calculator",
    "What is 144 divided by 12?": "calculator",
    "How much is 2 to the power of 10?": "calculator",
    "Calculate 45 + 67.": "calculator",
    "What is 99 minus 58?": "calculator",
    "What time is it now?": "clock",
    "What is today's date?": "clock",
    "Tell me the current time.": "clock",
    "What time is it in Tokyo?": "clock",
    "Which day is it today?": "clock",
    "When does the next train to Oslo leave?": "next_train",
    "What is the next train to Bergen?": "next_train",
    "I want to go to Trondheim by train. When is the next one?": "next_train",
    "Next train to Oslo, please.": "next_train",
    "When can I take a train to Bergen?": "next_train",
}


def next_train() -> Callable[..., str]:
    """The demo's own tool, loaded from its file as the command line loads it."""
    spec = importlib.util.spec_from_file_location("demo_trains", DEMO / "trains.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., str] = module.next_train
    return function


def agent(tool_choice: str, sampling: Sampling, turn_tokens: int = 200) -> Agent:
    return Agent(
        "embedded",
        tools=[calculator, clock, next_train()],
        examples=[Example(**example) for example in json.loads((DEMO / "examples.json").read_text())],
        tool_choice=tool_choice,
        sampling=sampling,
        limits=Limits(turn_tokens=turn_tokens),
        constrain="strict",
    )


def first_turn(agent: Agent, question: str) -> Turn:
    async def go() -> Turn:
        async with agent.stream(question) as stream:
            async for event in stream:
                if isinstance(event, StepFinished):
                    return event.turn
        raise AssertionError("no turn")

    return anyio.run(go)


@pytest.mark.parametrize("tool_choice", ["auto", "required"])
def test_fifteen_questions_give_valid_turns_and_the_right_tools(tool_choice: str) -> None:
    asked = agent(tool_choice, Sampling(temperature=0.0))
    turns = {question: first_turn(asked, question) for question in QUESTIONS}
    invalid = {question: turn.faults for question, turn in turns.items() if turn.faults}
    called = {question: turn.tool_calls[0].name if turn.tool_calls else None for question, turn in turns.items()}
    wrong = {question: name for question, name in called.items() if name != QUESTIONS[question]}
    assert not invalid
    assert len(wrong) <= 3, wrong


@pytest.mark.parametrize("seed", range(4))
def test_no_turn_is_invalid_whatever_the_dice_say(seed: int) -> None:
    """Hot sampling: nonsense in words, never in form. A turn may be cut off by the limit; that is not invalid."""
    tools = {tool.__name__: tool for tool in (calculator, clock)}
    for choice in ("auto", "required"):
        question = list(QUESTIONS)[(seed * 2 + (choice == "auto")) % len(QUESTIONS)]
        turn = first_turn(agent(choice, Sampling(temperature=1.5, seed=seed), turn_tokens=80), question)
        assert all(fault.kind == "truncated" for fault in turn.faults), turn
        assert all(call.name in {*tools, "next_train"} for call in turn.tool_calls)
        assert not any(call.repairs for call in turn.tool_calls)
