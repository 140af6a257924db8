"""Conversations survive JSON exactly, and only grow."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent.errors import ConfigurationError
from hermes_agent.messages import (
    AssistantMessage,
    Conversation,
    Example,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)

# Any text at all, lone surrogates included: a model's tokens may spell them.
text = st.text(st.characters(exclude_categories=()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
calls = st.builds(
    ToolCall, text, st.dictionaries(text, json_values, max_size=3), text, text, st.lists(text, max_size=2).map(tuple)
)
messages = st.one_of(
    st.builds(SystemMessage, text),
    st.builds(UserMessage, text),
    st.builds(AssistantMessage, text, st.none() | text, st.lists(calls, max_size=2).map(tuple), text),
    st.builds(ToolMessage, text, text, text, st.booleans()),
)


@given(st.lists(messages, max_size=6))
def test_a_conversation_survives_json_exactly(items: list[UserMessage]) -> None:
    conversation = Conversation(items)
    assert Conversation.from_json(conversation.to_json()) == conversation


def test_numbers_keep_their_kind() -> None:
    call = ToolCall("f", {"a": 1, "b": 1.0, "c": 10**40, "d": -0.0, "e": True})
    loaded = Conversation.from_json(Conversation([AssistantMessage(tool_calls=(call,))]).to_json())[0]
    assert isinstance(loaded, AssistantMessage)
    assert [(type(v), repr(v)) for v in loaded.tool_calls[0].arguments.values()] == [
        (type(v), repr(v)) for v in call.arguments.values()
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_what_is_not_json_is_refused_by_name(value: object) -> None:
    conversation = Conversation([AssistantMessage(tool_calls=(ToolCall("f", {"a": value}),))])
    with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
        conversation.to_json()


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        "null",
        '{"version": 2, "messages": []}',
        '{"version": 1}',
        '{"version": 1, "messages": [{"role": "x"}]}',
        '{"version": 1, "messages": [{"role": "user"}]}',
        "[" * 100_000,
    ],
)
def test_what_is_not_a_saved_conversation_is_refused(broken: str) -> None:
    with pytest.raises(ConfigurationError, match="not a saved conversation"):
        Conversation.from_json(broken)


def test_a_saved_conversation_says_its_version() -> None:
    assert json.loads(Conversation([UserMessage("x")]).to_json())["version"] == 1


def test_a_conversation_grows_and_slices() -> None:
    conversation = Conversation([UserMessage("a")])
    conversation.append(AssistantMessage("b"))
    conversation.extend([UserMessage("c")])
    assert [type(m) for m in conversation] == [UserMessage, AssistantMessage, UserMessage]
    assert conversation[1:] == (AssistantMessage("b"), UserMessage("c"))
    assert conversation[-1] == UserMessage("c")
    assert conversation != [UserMessage("a")]
    with pytest.raises(TypeError, match="unhashable"):
        hash(conversation)


def test_an_example_becomes_the_turns_it_stands_for() -> None:
    example = Example("q", calls=[("f", {"a": 1}, "r"), ("g", {}, "s")], answer="done")
    assert [m.role for m in example.messages()] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
