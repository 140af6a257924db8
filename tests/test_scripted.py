from __future__ import annotations

from contextlib import aclosing
from typing import Any, cast

import anyio
import pytest

from hermes_agent import Agent
from hermes_agent.errors import ConfigurationError, ModelError
from hermes_agent.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from hermes_agent.models.base import Model, Request
from hermes_agent.testing import ScriptedModel, ScriptedTurn


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALL = AssistantMessage(tool_calls=(ToolCall("add", {"a": 1, "b": 2}),))


def written(model: Model, *messages: Message) -> list[str]:
    async def go() -> list[str]:
        async with aclosing(model.generate(Request(messages))) as chunks:
            return [chunk.text async for chunk in chunks]

    return anyio.run(go)


def test_a_turn_may_be_a_function_of_the_request() -> None:
    def report(request: Request) -> str:
        last = request.messages[-1]
        assert isinstance(last, ToolMessage)
        return f"It is {last.content}."

    model = ScriptedModel([lambda request: AssistantMessage(tool_calls=CALL.tool_calls), report])
    assert Agent(model, tools=[add]).run_sync("1 + 2?").output == "It is 3."
    model.assert_complete()


@pytest.mark.parametrize("error", [ModelError("out of memory"), OSError("no network")])
def test_a_turn_may_be_an_error(error: Exception) -> None:
    model = ScriptedModel([error, "Hello."])
    with pytest.raises(type(error)) as caught:
        written(model)
    assert caught.value is error
    assert "".join(written(model)) == "Hello."
    assert len(model.requests) == 2
    model.assert_complete()


def test_a_function_may_raise() -> None:
    def fail(request: Request) -> str:
        raise ModelError(f"{len(request.messages)} messages are too many")

    with pytest.raises(ModelError, match="1 messages are too many"):
        written(ScriptedModel([fail]), UserMessage("Hi"))


def test_what_is_no_turn_is_refused() -> None:
    wrong = cast("ScriptedTurn", lambda request: 21)  # pyright: ignore[reportUnknownLambdaType]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="turn 2 of the script is 21"):
        Agent(ScriptedModel([CALL, wrong]), tools=[add]).run_sync("Hi")


@pytest.mark.parametrize("turns", ["hello", b"hello", 5, None, [5], ["fine", None]])
def test_what_is_no_script_is_refused_at_once(turns: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is no list of turns|turn \d of the script is"):
        ScriptedModel(turns)


def test_turns_that_are_made_as_it_goes_are_checked_as_it_goes() -> None:
    turns: Any = (turn for turn in ["Fine.", 5])
    model = ScriptedModel(turns)
    assert Agent(model).run_sync("Hi").output == "Fine."
    with pytest.raises(ConfigurationError, match="turn 2 of the script is 5"):
        Agent(model).run_sync("Hi")


def test_the_end_of_the_script_says_what_was_asked() -> None:
    with pytest.raises(ModelError) as caught:
        Agent(ScriptedModel([CALL]), tools=[add]).run_sync("Hi")
    assert "it has 1 turn, and request 2 asks for one more" in caught.value.message
    assert "ToolMessage(content='3', name='add'" in caught.value.message
    with pytest.raises(ModelError, match=r"it has 0 turns, .* behind no message"):
        written(ScriptedModel([]))


def test_what_was_asked_is_cut() -> None:
    with pytest.raises(ModelError) as caught:
        written(ScriptedModel([]), UserMessage("x" * 10_000))
    assert len(caught.value.message) < 500


def test_turns_that_are_left_are_told() -> None:
    model = ScriptedModel(["one", "two", "three"])
    with pytest.raises(AssertionError, match=r"3 turns .* next: 'one'; .* after 0 requests"):
        model.assert_complete()
    model = ScriptedModel(["one", "two"])
    written(model, UserMessage("Hi"))
    with pytest.raises(AssertionError, match=r"1 turn of .* 'two'; .* after 1 request, the last behind .*'Hi'"):
        model.assert_complete()


def test_a_turn_comes_in_pieces() -> None:
    assert written(ScriptedModel(["abcde"], chunk_size=2)) == ["ab", "cd", "e", ""]
