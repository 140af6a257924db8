"""Endpoints against a real server: llama.cpp, with the model that the SDK brings along."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import aclosing
from dataclasses import replace
from typing import Any, get_args

import anyio
import httpx
import pytest
from pydantic import BaseModel

from hermes_agent import Agent, Limits
from hermes_agent.errors import ContextLengthError, GuaranteeError, ModelUnavailableError
from hermes_agent.formats import TurnGrammar, dialect, parse
from hermes_agent.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from hermes_agent.models.base import Chunk, Model, Request
from hermes_agent.models.endpoint import Endpoint, Timeouts
from hermes_agent.models.servers import SERVERS, FormKind, Server, Wire
from hermes_agent.reasoning import Mode, Reasoning
from hermes_agent.run import RunResult
from hermes_agent.sampling import Sampling
from hermes_agent.tool import Tool
from tests.llama_server import LlamaServer

pytestmark = pytest.mark.anyio

GREEDY = Sampling(temperature=0)
WIRES: tuple[Wire, ...] = get_args(Wire)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "asyncio"))


def endpoint(llama: LlamaServer, wire: Wire = "completions", **settings: Any) -> Endpoint:
    return Endpoint("hermes", server="llamacpp", base_url=llama.url, wire=wire, **settings)


async def written(model: Model, **request: Any) -> list[Chunk]:
    request = {"messages": [UserMessage("Count to five.")], "sampling": GREEDY, "max_tokens": 40, **request}
    return [chunk async for chunk in model.generate(Request(**request))]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def until_idle(llama: LlamaServer, seconds: float = 20) -> None:
    with anyio.fail_after(seconds):
        while await asyncio.to_thread(llama.busy):  # noqa: ASYNC110  # another process's state has no event here
            await anyio.sleep(0.02)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_turn_comes_token_by_token(llama: LlamaServer, wire: Wire) -> None:
    chunks = await written(endpoint(llama, wire), max_tokens=6)
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    last = chunks[-1]
    assert (last.finish_reason, last.output_tokens, last.guarantee) == ("length", 6, None)
    assert last.input_tokens > 5
    assert "1" in text(chunks)


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_trio_does_as_well(llama: LlamaServer) -> None:
    assert text(await written(endpoint(llama), max_tokens=3))


@pytest.mark.parametrize("wire", WIRES)
async def test_a_typed_answer_is_enforced(llama: LlamaServer, wire: Wire) -> None:
    grammar = TurnGrammar((), bool)
    chunks = await written(endpoint(llama, wire), grammar=grammar, output=grammar.output)
    assert grammar.accepts(text(chunks).strip())


@pytest.mark.parametrize("wire", ["completions", "chat"])
@pytest.mark.parametrize("mode", get_args(Mode))
async def test_calls_are_enforced_thinking_or_not(llama: LlamaServer, wire: Wire, mode: Mode) -> None:
    def pick(colour: bool) -> None:
        """Pick."""

    grammar = TurnGrammar([pick], bool, "required", parallel=False, reasoning=mode)
    chunks = await written(
        endpoint(llama, wire),
        tools=grammar.tools,
        grammar=grammar,
        output=grammar.output,
        reasoning=Reasoning(mode, max_tokens=4),
        max_tokens=60,
    )
    turn = parse(text(chunks), tools=grammar.tools)
    assert not turn.faults
    assert [call.name for call in turn.tool_calls] == ["pick"]
    assert (turn.reasoning is not None) == (mode == "on")


@pytest.mark.parametrize("kind", ["lark", "gbnf"])
@pytest.mark.parametrize("mode", get_args(Mode))
async def test_each_form_of_the_whole_turn_is_enforced(llama: LlamaServer, kind: FormKind, mode: Mode) -> None:
    def pick(colour: bool) -> None:
        """Pick."""

    grammar = TurnGrammar([pick], bool, "required", parallel=False, reasoning=mode)
    model = Endpoint(f"only-{kind}", server=only(kind), base_url=llama.url)
    assert await model.guarantee(grammar, prove=True) == "server"
    chunks = await written(
        model, tools=grammar.tools, grammar=grammar, output=grammar.output, reasoning=Reasoning(mode), max_tokens=150
    )
    assert chunks[-1].guarantee == "server"
    if chunks[-1].finish_reason == "stop":  # else it was still thinking, which nothing bounds here
        assert grammar.accepts(text(chunks))


async def test_tags_that_are_control_tokens_are_written_and_seen(llama: LlamaServer) -> None:
    # Two tokens of this vocabulary that llama.cpp would leave out of its text; Hermes models have such tags.
    own = dialect("chatml", think_open="<repo_name>", think_close="<file_sep>")
    grammar = TurnGrammar((), bool, reasoning="on")
    model = endpoint(llama, dialect=own)
    asked = {"grammar": grammar, "output": grammar.output}
    whole = text(await written(model, **asked, reasoning=Reasoning("on"), max_tokens=4))
    assert whole.startswith("<repo_name>")
    turn = parse(text(await written(model, **asked, reasoning=Reasoning("on", max_tokens=4))), dialect=own)
    assert turn.reasoning is not None
    assert turn.text in ("true", "false")


@pytest.mark.parametrize("mode", get_args(Mode))
async def test_where_only_a_schema_is_enforced_the_thought_comes_first_in_a_request_of_its_own(
    llama: LlamaServer, mode: Mode
) -> None:
    grammar = TurnGrammar((), bool, reasoning=mode)
    model = Endpoint("only-schema", server=only("json_schema"), base_url=llama.url)
    reasoning = Reasoning(mode, max_tokens=5 if mode == "on" else None)
    chunks = await written(model, grammar=grammar, output=grammar.output, reasoning=reasoning)
    turn = parse(text(chunks))
    assert turn.text.strip() in ("true", "false")
    assert (turn.reasoning is not None) == (mode == "on")


def only(kind: FormKind) -> Server:
    row = SERVERS["llamacpp"]
    return replace(row, forms={wire: tuple(f for f in forms if f.kind == kind) for wire, forms in row.forms.items()})


@pytest.mark.parametrize("wire", ["completions", "chat"])
async def test_a_budget_ends_a_thought(llama: LlamaServer, wire: Wire) -> None:
    grammar = TurnGrammar((), bool, reasoning="on")
    reasoning = Reasoning("on", max_tokens=5)
    chunks = await written(endpoint(llama, wire), grammar=grammar, output=grammar.output, reasoning=reasoning)
    turn, last = parse(text(chunks)), chunks[-1]
    assert turn.reasoning
    assert turn.text in ("true", "false")
    assert last.thought_cut
    assert last.thinking_tokens == 5


@pytest.mark.parametrize("wire", ["completions", "chat"])
async def test_a_turn_is_taken_up_behind_its_beginning(llama: LlamaServer, wire: Wire) -> None:
    chunks = await written(endpoint(llama, wire), prefix="1, 2, 3, 4, 5, 6,", max_tokens=3)
    assert text(chunks).strip().startswith("7")


async def test_leaving_a_turn_stops_the_server(llama: LlamaServer) -> None:
    model = endpoint(llama)
    async with aclosing(model.generate(Request([UserMessage("Tell a long story.")], max_tokens=2000))) as chunks:
        assert (await anext(chunks)).text
        assert await asyncio.to_thread(llama.busy) == 1
    await until_idle(llama)


async def test_cancelling_a_run_stops_the_server(llama: LlamaServer) -> None:
    model = endpoint(llama)
    begun = anyio.Event()

    async def tell() -> None:
        async for chunk in model.generate(Request([UserMessage("Tell a long story.")], max_tokens=2000)):
            if chunk.text:
                begun.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        await begun.wait()
        tasks.cancel_scope.cancel()
    await until_idle(llama)


async def test_a_prompt_that_is_too_long_says_so(llama: LlamaServer) -> None:
    with pytest.raises(ContextLengthError, match="4096"):
        await written(endpoint(llama), messages=[UserMessage("word " * 6000)])


async def test_the_server_tells_its_context_length(llama: LlamaServer) -> None:
    model = endpoint(llama)
    assert model.context_length is None
    await written(model, max_tokens=1)
    assert model.context_length == 4096


async def test_only_so_many_requests_are_in_flight(llama: LlamaServer) -> None:
    model = endpoint(llama, max_in_flight=1)
    most = 0

    async def one() -> None:
        nonlocal most
        async with aclosing(model.generate(Request([UserMessage("Hi")], max_tokens=40))) as chunks:
            async for _ in chunks:
                most = max(most, await asyncio.to_thread(llama.busy))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert most == 1


async def test_an_address_where_nobody_listens_is_named() -> None:
    model = Endpoint("m", server="vllm", base_url="http://127.0.0.1:9/v1", max_retries=0, timeouts=Timeouts(connect=2))
    with pytest.raises(ModelUnavailableError, match=r"'m' at 'http://127\.0\.0\.1:9/v1' cannot be reached"):
        await written(model)


async def test_a_path_that_is_not_there_is_named(llama: LlamaServer) -> None:
    model = Endpoint("m", server="vllm", base_url=f"{llama.root}/nowhere/v1", max_retries=0)
    with pytest.raises(ModelUnavailableError, match="404"):
        await written(model)


def test_each_loop_has_its_own_connections_and_closes_them(llama: LlamaServer) -> None:
    model = endpoint(llama)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(2):
            assert text(asyncio.run(written(model, max_tokens=1)))


async def test_a_client_of_ones_own_is_used_and_left_open(llama: LlamaServer) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=llama.url, api_key="k") as client:
        model = Endpoint("m", server="llamacpp", client=client)
        assert model.base_url == llama.url
        assert text(await written(model, max_tokens=1))
        await model.aclose()
        assert not client.is_closed()


async def test_an_http_client_of_ones_own_is_used_and_left_open(llama: LlamaServer) -> None:
    import httpx2

    async with httpx2.AsyncClient() as client:
        model = endpoint(llama, http_client=client)
        assert text(await written(model, max_tokens=1))
        await model.aclose()
        assert not client.is_closed


async def test_strict_fails_closed_where_only_the_schema_is_enforced(llama: LlamaServer) -> None:
    grammar = TurnGrammar([Tool.of(get_weather)], Weather)
    with pytest.raises(GuaranteeError, match="does not enforce this turn") as caught:
        await endpoint(llama, "native").guarantee(grammar, prove=True)
    assert "constrain='auto'" in caught.value.hint


class Weather(BaseModel):
    city: str
    celsius: int


def get_weather(city: str) -> dict[str, object]:
    """Current weather.

    Args:
        city: City name.
    """
    return {"city": city, "celsius": 21}


def asked_before() -> list[Message]:
    """A tiny model has to see how it is done."""
    messages: list[Message] = []
    for city, celsius in (("Rome", 30), ("Oslo", 4), ("Lima", 18)):
        found = f'{{"city": "{city}", "celsius": {celsius}}}'
        call = ToolCall("get_weather", {"city": city})
        messages += [
            UserMessage(f"What is the weather in {city}?"),
            AssistantMessage("", f"I look up {city}.", (call,)),
            ToolMessage(found, name="get_weather"),
            AssistantMessage(found, f"I know {city} now."),
        ]
    return messages


@pytest.mark.parametrize("name", ["embedded", "llamacpp+completions", "llamacpp+chat", "llamacpp+native"])
def test_one_agent_gives_one_type_by_changing_the_model_string_alone(llama: LlamaServer, name: str) -> None:
    if name == "embedded":
        pytest.importorskip("torch", reason="the extra `local` is not installed")
    agent = Agent(
        name if name == "embedded" else f"{name}:unproven@{llama.url}",
        tools=[get_weather],
        output=Weather,
        reasoning=Reasoning("on", keep="all"),
        sampling=GREEDY,
        limits=Limits(turn_tokens=80, steps=6),
    )
    result: RunResult[Weather] = agent.run_sync("What is the weather in Paris?", history=asked_before())
    assert isinstance(result.output, Weather)
    assert result.output.celsius == 21
    assert result.usage.tool_calls >= 1
    assert result.guarantee == ("token" if name == "embedded" else "checked")


@pytest.mark.parametrize("wire", ["completions", "chat"])
def test_strict_runs_where_the_grammar_bites(llama: LlamaServer, wire: Wire) -> None:
    agent = Agent(
        endpoint(llama, wire),
        tools=[get_weather],
        output=Weather,
        constrain="strict",
        sampling=GREEDY,
        limits=Limits(turn_tokens=80, steps=6),
    )
    history = [
        message
        if not isinstance(message, AssistantMessage)
        else AssistantMessage(message.text, None, message.tool_calls)
        for message in asked_before()
    ]
    result = agent.run_sync("What is the weather in Paris?", history=history)
    assert isinstance(result.output, Weather)
    assert result.guarantee == "server"
    # llama.cpp tells LLGuidance of one end token. Where it is not the model's own, calls went on to the token limit.
    assert result.usage.tool_calls == 1


async def test_a_turn_is_the_same_over_our_prompt_and_over_chat(llama: LlamaServer) -> None:
    raw, chat = [text(await written(endpoint(llama, wire), max_tokens=8)) for wire in ("completions", "chat")]
    assert raw == chat


def test_the_server_is_there_when_all_is_done(llama: LlamaServer) -> None:
    assert httpx.get(f"{llama.root}/health", timeout=10).status_code == 200
