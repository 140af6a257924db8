"""What a server turns down, over real sockets."""

from __future__ import annotations

import json

import pytest

from hermes_agent.errors import ContextLengthError, ModelError, ModelUnavailableError
from hermes_agent.formats import TurnGrammar
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Request
from hermes_agent.models.endpoint import Endpoint
from tests.told import Came, Reply, Told, deltas, say, texts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_form_that_the_server_refuses_makes_room_for_the_next() -> None:
    refused = 400, '{"error": {"message": "Unknown field: grammar"}}'
    grammar = TurnGrammar((), list[int])
    with Told([refused, deltas({"content": "[1]"}), deltas({"content": "[2]"})]) as told:
        endpoint = Endpoint("m", server="llamacpp", base_url=told.url, wire="chat")
        for _ in range(2):
            last = [c async for c in endpoint.generate(Request([UserMessage("x")], grammar=grammar))][-1]
            assert last.guarantee == "checked"
        await endpoint.aclose()
        bodies = [a.json for a in told.requests if a.path.endswith("completions")]
    first, second, third = ({"grammar", "json_schema"} & body.keys() for body in bodies)
    assert first == {"grammar"}
    assert bodies[1] != bodies[0]
    assert second == third


async def test_a_server_that_takes_the_turn_in_no_form_is_asked_in_the_strongest_next_time() -> None:
    broken = 500, '{"error": {"message": "something went wrong"}}'
    grammar = TurnGrammar((), list[int])
    with Told([*[broken] * 4, deltas({"content": "[1]"})]) as told:
        endpoint = Endpoint("m", server="llamacpp", base_url=told.url, wire="chat", max_retries=0)
        request = Request([UserMessage("x")], grammar=grammar)
        with pytest.raises(ModelError):
            [c async for c in endpoint.generate(request)]
        _ = [c async for c in endpoint.generate(request)]
        await endpoint.aclose()
        bodies = [a.json for a in told.requests if a.path.endswith("completions")]
    assert bodies[-1].get("grammar") == bodies[0]["grammar"]
    assert len(bodies) == 5


async def test_a_prompt_that_leaves_less_room_gets_less() -> None:
    words = (
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
        "(904 in the messages, 4096 in the completion)."
    )
    came = await say((400, json.dumps({"message": words})), texts("x"), wire="completions", max_tokens=4096)
    assert [body["max_tokens"] for body in came.asked] == [4096, 3192]


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, {"error": {"message": "bad key"}}, ModelUnavailableError, "VLLM_API_KEY"),
        (404, {"error": {"message": "The model `m` does not exist."}}, ModelUnavailableError, "does not exist"),
        (503, {"message": "loading"}, ModelUnavailableError, "loading"),
        (400, {"detail": "nonsense"}, ModelError, "nonsense"),
        (
            400,
            {"error": {"message": "request (9008 tokens) exceeds the available context size (4096 tokens)"}},
            ContextLengthError,
            "9008",
        ),
    ],
)
async def test_refusals_say_who_what_and_why(status: int, body: object, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as caught:
        await say((status, json.dumps(body)))
    message = str(caught.value)
    assert type(caught.value) is kind
    assert all(part in message for part in (said, "'m'", str(status), "http://127.0.0.1:", "hint: "))


async def test_a_content_filter_is_an_error() -> None:
    with pytest.raises(ModelError, match="content_filter"):
        await say(deltas({"content": "x"}, finish="content_filter"))


async def test_a_missing_key_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOUS_API_KEY", raising=False)
    with pytest.raises(ModelUnavailableError, match="NOUS_API_KEY"):
        await anext(Endpoint("Hermes-4-70B", server="nous").generate(Request([UserMessage("Hi")])))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "Invalid request"}}),
        (400, {}),
        (415, "no"),
        (422, {"detail": [{"loc": ["body"], "msg": "Input should be valid"}]}),
        (500, {"error": {"message": "Internal Server Error"}}),
        (500, {"error": {"message": "json_schema is not implemented"}}),
        (501, {"error": "not implemented"}),
    ],
)
async def test_a_form_makes_room_for_the_next_where_nothing_else_is_named(status: int, body: object) -> None:
    came = await _with_form((status, json.dumps(body)), deltas({"content": "[1]"}))
    assert [{"response_format"} & asked.keys() for asked in came.asked] == [{"response_format"}, set()]
    assert (came.text, came.last.guarantee) == ("[1]", "checked")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "The model `m` does not exist"),
        (400, "API key not valid"),
        (400, "maximum context length is 10 tokens"),
        (401, "who are you"),
        (404, "no such path"),
        (429, "slow down"),
        (500, "CUDA out of memory"),
        (503, "loading model"),
    ],
)
async def test_a_form_makes_no_room_where_something_else_is_named(status: int, said: str) -> None:
    with pytest.raises(ModelError, match=said[:9]):
        await _with_form((status, json.dumps({"error": {"message": said}})), deltas({"content": "[1]"}))


async def _with_form(*replies: Reply) -> Came:
    grammar = TurnGrammar((), list[int])
    return await say(*replies, server="ollama", grammar=grammar, output=grammar.output)
