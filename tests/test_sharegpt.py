"""Training data: a conversation survives it exactly, and so does a record, text for text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from hermes_agent.errors import ConfigurationError
from hermes_agent.formats import DIALECTS, from_sharegpt, to_sharegpt
from hermes_agent.messages import (
    AssistantMessage,
    Conversation,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)

# Texts that models, users and tools may say, and those that are made to confuse a reader.
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>", "<|im_end|>")
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
pieces = st.sampled_from(
    [*TAGS, "\n", " ", CALL, '{"name": "f", "content": 1}', "{", "[1, 2]", '"', "\ud800", "text", ""]
)
text = st.lists(pieces, max_size=6).map("".join) | st.text(st.characters(exclude_categories=()), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(
    ToolCall, text, st.dictionaries(text, json_values, max_size=2), text, text, st.lists(text, max_size=1).map(tuple)
)
messages = st.one_of(
    st.builds(SystemMessage, text),
    st.builds(UserMessage, text),
    st.builds(AssistantMessage, text, st.none() | text, st.lists(calls, max_size=2).map(tuple), st.just("") | text),
    st.builds(ToolMessage, text, text, text, st.booleans()),
)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Report(BaseModel):
    city: str


SAID: Sequence[Message] = (
    SystemMessage("Be short."),
    UserMessage("What is 2 + 2, and 3 + 3?"),
    AssistantMessage(
        "One moment.",
        "Two sums.",
        (ToolCall("add", {"a": 2, "b": 2}, "call_2_0"), ToolCall("add", {"a": 3, "b": 3}, "call_2_1")),
    ),
    ToolMessage("4", "add", "call_2_0"),
    ToolMessage("Error: no", "add", "call_2_1", is_error=True),
    AssistantMessage("4, and I do not know.", ""),
)


@given(st.lists(messages, max_size=6), st.booleans(), st.sampled_from(sorted(DIALECTS.keys() - {"json-mode"})))
@example([AssistantMessage(tool_calls=(ToolCall("f", {"a": -0.0}, "call_0_0"),))], False, "chatml")
@example([SystemMessage(""), SystemMessage(""), ToolMessage(""), ToolMessage("")], True, "hermes-3")
def test_a_conversation_survives_exactly(said: list[Message], with_tools: bool, dialect: str) -> None:
    record = json.loads(json.dumps(to_sharegpt(said, tools=[add] if with_tools else (), dialect=dialect)))
    sample = from_sharegpt(record)
    assert repr(list(sample.conversation)) == repr(said)  # more than ==, to which 0.0 and -0.0 are the same
    assert sample.to_sharegpt() == record
    assert [tool.name for tool in sample.tools] == (["add"] if with_tools else [])


def turn(role: str, value: str, weighted: bool) -> dict[str, Any]:
    return {"from": role, "value": value, "weight": 0} if weighted else {"from": role, "value": value}


roles = st.sampled_from(["system", "human", "user", "gpt", "assistant", "tool"])
turns = st.builds(turn, roles, text, st.booleans())


@given(st.lists(turns, max_size=6), st.dictionaries(st.sampled_from(["id", "category", "task"]), text))
@example([{"from": "gpt", "value": "<tool_call>\n{'arguments': {'a': True}, 'name': 'f'}\n</tool_call>\n"}], {})
@example(
    [{"from": "tool", "value": "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>\n"}], {}
)
def test_a_record_survives_text_for_text(conversations: list[dict[str, Any]], keys: dict[str, str]) -> None:
    record = {"conversations": conversations, **keys}
    sample = from_sharegpt(record)
    assert sample.to_sharegpt() == record
    assert from_sharegpt(to_sharegpt(sample.conversation)).conversation == sample.conversation
    assert Conversation.from_json(sample.conversation.to_json()) == sample.conversation


@given(st.lists(turns, max_size=6))
def test_what_models_and_users_wrote_is_in_the_conversation_itself(conversations: list[dict[str, Any]]) -> None:
    """Through a conversation alone, without the record, all is kept but how results were wrapped."""
    plain = [
        {**turn, "from": {"user": "human", "assistant": "gpt"}.get(turn["from"], turn["from"])}
        for turn in conversations
    ]
    told = [{"from": t["from"], "value": t["value"]} for t in plain if t["from"] != "tool"]
    again = to_sharegpt(from_sharegpt({"conversations": conversations}).conversation)["conversations"]
    assert [turn for turn in again if turn["from"] != "tool"] == told


def test_the_visible_turns_are_what_a_model_reads_and_writes() -> None:
    record = to_sharegpt(SAID, dialect="hermes-4-14b")
    assert record["conversations"] == [
        {"from": "system", "value": "Be short."},
        {"from": "human", "value": "What is 2 + 2, and 3 + 3?"},
        {
            "from": "gpt",
            "value": "<think>\nTwo sums.\n</think>\nOne moment.\n"
            '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call>\n'
            '<tool_call>\n{"name": "add", "arguments": {"a": 3, "b": 3}}\n</tool_call>',
        },
        {
            "from": "tool",
            "value": "<tool_response>\n4\n</tool_response>\n<tool_response>\nError: no\n</tool_response>",
        },
        {"from": "gpt", "value": "<think>\n\n</think>\n4, and I do not know."},
    ]
    assert "tools" not in record
    assert all(isinstance(value, str) for key, value in record.items() if key != "conversations")


def test_tools_stand_in_the_system_turn_and_once_more_as_json() -> None:
    record = to_sharegpt(SAID, tools=[add])
    assert [turn["from"] for turn in record["conversations"]] == ["system", "human", "gpt", "tool", "gpt"]
    system = record["conversations"][0]["value"]
    assert "<tools>" in system
    assert '"name": "add"' in system
    assert system.endswith("Be short.")
    (tool,) = json.loads(record["tools"])
    assert tool["type"] == "function"
    assert tool["function"]["name"] == "add"
    assert record["conversations"][3]["value"].startswith('<tool_response>\n{"name": "add", "content": "4"}\n')


def test_a_typed_answer_and_thinking_are_asked_for_in_the_system_turn() -> None:
    said: list[Message] = [UserMessage("Paris?"), AssistantMessage('{"city": "Paris"}', "Easy.")]
    record = to_sharegpt(said, output=Report, reasoning="on", dialect="hermes-4-70b")
    system = record["conversations"][0]["value"]
    assert "<schema>" in system
    assert "deep thinking" in system
    assert list(from_sharegpt(record).conversation) == said


PUBLISHED: dict[str, Any] = {
    "id": "1f0c",
    "conversations": [
        {"from": "system", "value": "You may call functions.\n<tools>\n[{'type': 'function'}]\n</tools>\n"},
        {"from": "human", "value": "Find me a flight to Oslo, and the weather there."},
        {
            "from": "gpt",
            "value": "<tool_call>\n{'arguments': {'to': 'Oslo', 'direct': True}, 'name': 'find_flights'}\n"
            "</tool_call>\n"
            "<tool_call>\n{'arguments': {'city': 'Oslo'}, 'name': 'weather'}\n</tool_call>\n",
        },
        {
            "from": "tool",
            "value": '<tool_response>\n{"name": "find_flights", "content": {"flights": []}}\n</tool_response>\n'
            "<tool_response>\nrain\n</tool_response>\n",
        },
        {"from": "gpt", "value": "There are none, and it rains."},
    ],
    "tools": '[{"type": "function", "function": {"name": "find_flights", "description": "Find flights.", '
    '"parameters": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}}}]',
    "category": "Travel",
    "subcategory": "Flights",
    "task": "Find a flight",
}


def test_a_record_of_the_published_layout_is_read_as_what_it_means() -> None:
    sample = from_sharegpt(PUBLISHED)
    _, question, turn, flights, weather, answer = sample.conversation
    assert isinstance(turn, AssistantMessage)
    assert question == UserMessage("Find me a flight to Oslo, and the weather there.")
    assert [(call.name, call.arguments, call.id) for call in turn.tool_calls] == [
        ("find_flights", {"to": "Oslo", "direct": True}, "call_2_0"),
        ("weather", {"city": "Oslo"}, "call_2_1"),
    ]
    assert turn.raw == PUBLISHED["conversations"][2]["value"]
    assert flights == ToolMessage('{"flights": []}', "find_flights", "call_2_0")
    assert weather == ToolMessage("rain", "weather", "call_2_1")
    assert answer == AssistantMessage("There are none, and it rains.")
    assert [tool.name for tool in sample.tools] == ["find_flights"]
    assert sample.keys["task"] == "Find a flight"
    assert sample.to_sharegpt() == PUBLISHED


def test_a_read_conversation_goes_on_and_is_written_with_what_was_added() -> None:
    sample = from_sharegpt(PUBLISHED)
    sample.conversation.append(UserMessage("Thanks."))
    again = sample.to_sharegpt()
    assert again["conversations"] == [*PUBLISHED["conversations"], {"from": "human", "value": "Thanks."}]
    assert again["tools"] == PUBLISHED["tools"]


def test_whoever_edits_a_visible_turn_is_believed() -> None:
    record = to_sharegpt([UserMessage("q"), ToolMessage("stray", "f", "x", is_error=True)])
    assert "hermes_agent" in record
    record["conversations"][1]["value"] = "<tool_response>\nmended\n</tool_response>"
    assert list(from_sharegpt(record).conversation) == [UserMessage("q"), ToolMessage("mended")]


def test_what_the_layout_can_say_needs_no_further_key() -> None:
    said: list[Message] = [UserMessage("q"), AssistantMessage("a", "thought"), UserMessage("r"), AssistantMessage("")]
    assert "hermes_agent" not in to_sharegpt(said)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({}, "no ShareGPT record"),
        ([], "no ShareGPT record"),
        ({"conversations": "text"}, "no ShareGPT record"),
        ({"conversations": ["text"]}, "turn 0 is 'text'"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "alien", "value": "x"}]}, "turn 1 is"),
        ({"conversations": [{"from": "human", "value": None}]}, "turn 0 is"),
        ({"conversations": [], "hermes_agent": "{}"}, "under 'hermes_agent' cannot be read"),
        ({"conversations": [], "hermes_agent": 7}, "under 'hermes_agent' cannot be read"),
        ({"conversations": [], "hermes_agent": '{"version": 2, "turns": {}}'}, "expected version 1"),
    ],
)
def test_another_layout_is_refused_where_it_breaks(record: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        from_sharegpt(record)


@pytest.mark.parametrize("tools", ["no json", {"a": 1}, [7], '[{"type": "function"}]'])
def test_what_is_no_list_of_tools_hinders_nobody_who_does_not_ask(tools: object) -> None:
    sample = from_sharegpt({"conversations": [], "tools": tools})
    assert sample.to_sharegpt()["tools"] == tools
    with pytest.raises(ConfigurationError, match="is no"):
        _ = sample.tools


@pytest.mark.parametrize("value", [float("nan"), {1}])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
        to_sharegpt([AssistantMessage(tool_calls=(ToolCall("f", {"a": value}),))])
