"""An agent with 500 tools does the work that they make once, however often it runs. Counts, not times."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from hermes_agent import Agent, Tool
from hermes_agent.errors import ModelError
from hermes_agent.formats import definitions
from hermes_agent.formats.dialects import dialect
from hermes_agent.formats.prompt import render
from hermes_agent.models.base import Chunk, Request
from hermes_agent.models.embedded import EmbeddedModel
from hermes_agent.testing import ScriptedModel

TOOLS = 500
RUNS = 3


def do(city: str) -> str:
    return f"done in {city}"


def tool(number: int) -> Tool:
    return Tool.from_schema(
        name=f"tool_{number}",
        description=f"Does the thing of number {number}.",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        call=do,
    )


@pytest.fixture
def tools() -> list[Tool]:
    return [tool(number) for number in range(TOOLS)]


class Rendering(ScriptedModel):
    """Writes its prompts as a model behind a server would be sent them."""

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        assert "tool_499" in render(request.messages, dialect=dialect("chatml"), tools=request.tools)
        async for chunk in super().generate(request):
            yield chunk


def test_a_prompt_shows_the_tools_as_they_were_written_once(tools: list[Tool]) -> None:
    call = '<tool_call>\n{"name": "tool_7", "arguments": {"city": "Paris"}}\n</tool_call>'
    agent = Agent(Rendering([call, "It is done."] * RUNS), tools=tools)
    before = definitions.written()
    for _ in range(RUNS):
        assert agent.run_sync("Do it.").output == "It is done."
    assert definitions.written() - before == 1


def test_tools_that_only_compare_equal_are_shown_as_they_are() -> None:
    one, true = (
        Tool.from_schema(name="f", description="", parameters={"type": "object", "properties": {"a": {"const": value}}})
        for value in (1, True)
    )
    assert '{"const": 1}' in definitions.tool_lines([one])[0]
    assert '{"const": true}' in definitions.tool_lines([true])[0]


def test_the_embedded_model_compiles_one_grammar_and_reads_the_tools_once(
    tools: list[Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hermes_agent.models import tokens

    model = EmbeddedModel()
    model.load()
    loaded: Any = model._loaded  # pyright: ignore[reportPrivateUsage]  # a window that 500 tools fit into
    monkeypatch.setattr(model, "_loaded", replace(loaded, context_length=10**6))

    def read(prompt: list[int]) -> None:
        raise ModelError(f"asked with {len(prompt)} tokens")

    monkeypatch.setattr(loaded.decoder, "read", read)
    encoded: list[int] = []
    encoder = tokens._encoder  # pyright: ignore[reportPrivateUsage]  # what reaches the tokenizer

    def counting(tokenizer: Any) -> Any:
        encode = encoder(tokenizer)

        def counted(text: str) -> list[int]:
            encoded.append(len(text))
            return encode(text)

        return counted

    monkeypatch.setattr(tokens, "_encoder", counting)
    agent, before = Agent(model, tools=tools), definitions.written()
    compiled = model.compiled_grammars
    for number in range(RUNS):
        with pytest.raises(ModelError, match="asked with"):
            agent.run_sync(f"Question {number}.")
    assert model.compiled_grammars - compiled == 1
    assert definitions.written() - before == 1
    assert sum(characters > 10_000 for characters in encoded) == 1
