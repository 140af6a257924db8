"""llama.cpp reads the GBNF form, and what it writes under it is what the grammar allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from llguidance import LLMatcher, LLTokenizer
from pydantic import BaseModel

from hermes_agent.errors import GrammarError
from hermes_agent.formats.grammar import TurnGrammar
from hermes_agent.formats.parser import parse
from hermes_agent.output import JsonSchema, Regex
from hermes_agent.tool import Tool
from tests.naming import label
from tests.test_grammar_laws import Case, object_cases

if TYPE_CHECKING:
    from tests.llama_server import LlamaServer

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: it is part of the dev extra")

Write = Callable[..., tuple[str, bool]]
"""Writes a turn under a grammar; tells whether it came to its end."""

PROMPT = "<|im_start|>user\nWhat is the weather in Paris and in Rome?<|im_end|>\n<|im_start|>assistant\n"


class Report(BaseModel):
    city: str
    degrees: float
    words: list[str]
    further: dict[str, int] | None = None


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius", days: int = 1) -> str:
    """Weather.

    Args:
        city: Name.
        unit: Unit.
        days: Days.
    """
    return f"{city} {unit} {days}"


@pytest.fixture(scope="module")
def write() -> Write:
    from tests.llama_server import LlamaServer

    return partial(_write, LlamaServer(slots=1))  # it runs as long as it is kept


def _write(server: LlamaServer, grammar: str, seed: int = 0, tokens: int = 45) -> tuple[str, bool]:
    settings_ = {"n_predict": tokens, "temperature": 1.5, "seed": seed, "cache_prompt": True}
    reply = httpx.post(
        f"{server.root}/completion", json={"prompt": PROMPT, "grammar": grammar, **settings_}, timeout=60
    )
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return str(body["content"]), body["stop_type"] == "eos"


def begins_a_turn(grammar: TurnGrammar, text: str) -> bool:
    """Whether a turn that the grammar allows may begin so."""
    matcher = LLMatcher(LLTokenizer("byte"), grammar.lark(), log_level=0)
    data = text.rstrip("\ufffd").encode()
    return bool(matcher.try_consume_tokens(list(data)) == len(data))


@pytest.mark.parametrize(
    "settings_",
    [
        {},
        {"tool_choice": "required", "parallel": 2},
        {"parallel": False, "reasoning": "on"},
        {"output": Report, "reasoning": "auto"},
        {"output": Report, "tool_choice": "none"},
        {"output": Regex(r"[A-Z][a-z]{2,9} -?[0-9]{1,2}"), "tool_choice": "none"},
        {"output": JsonSchema({"type": "string", "format": "date-time"}), "tool_choice": "none"},
        {"output": JsonSchema({"type": "string", "maxLength": 9000, "minLength": 2500}), "tool_choice": "none"},
        {"output": JsonSchema({}), "tool_choice": "none"},
        {"output": bool, "reasoning": "on", "inline": True},
    ],
    ids=label,
)
def test_what_llama_cpp_writes_is_allowed(write: Write, settings_: dict[str, Any]) -> None:
    whole = TurnGrammar([get_weather], **settings_)
    for seed, grammar in enumerate((whole, whole.in_thought() if whole.reasoning != "off" else whole)):
        text, ended = write(grammar.gbnf(), seed)
        assert begins_a_turn(grammar, text), text
        assert not ended or grammar.accepts(text), text
        if ended and grammar.place == "start":
            turn = parse(text, tools=[get_weather], output=grammar.output)
            assert not turn.faults or whole.inline


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(object_cases)
def test_llama_cpp_reads_the_grammar_of_any_schema(write: Write, case: Case) -> None:
    try:
        grammar = TurnGrammar([Tool.from_schema(name="f", parameters=case[0])], tool_choice="required", parallel=False)
    except GrammarError:
        return
    text, ended = write(grammar.gbnf(), tokens=15)
    assert begins_a_turn(grammar, text)
    assert not ended or grammar.accepts(text)
