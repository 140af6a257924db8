"""What a probe sees: of a real server that enforces, and of one that ignores whatever it is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hermes_agent.errors import GuaranteeError, ModelUnavailableError
from hermes_agent.formats import TurnGrammar
from hermes_agent.models.endpoint import Endpoint
from hermes_agent.models.probe import bites, question
from hermes_agent.models.servers import PLACE, SERVERS, Form, Wire
from tests.llama_server import LlamaServer
from tests.loopback import Asked, Client, Loopback

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Heedless(Loopback):
    """Answers 200 to everything, and heeds nothing."""

    def __init__(self, text: str = "Hello!", tokens: int = 9) -> None:
        super().__init__()
        self.text, self.tokens = text, tokens

    async def answer(self, asked: Asked, client: Client) -> None:
        if asked.path == "/v1/models":
            body = json.dumps({"data": [{"id": "served", "max_model_len": 2048}]}).encode()
            await client.whole(200, {"content-type": "application/json"}, body)
            return
        if not asked.path.endswith("completions"):
            await client.whole(404, {"content-type": "application/json"}, b"{}")
            return
        said = {"text": self.text} if "prompt" in asked.json else {"delta": {"content": self.text}}
        events: list[dict[str, Any]] = [
            {"choices": [{"index": 0, **said, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": self.tokens, "completion_tokens": 1}},
        ]
        await client.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for event in events:
            await client.chunk(f"data: {json.dumps(event)}\n\n".encode())
        await client.chunk(b"data: [DONE]\n\n")
        await client.chunk(b"")


async def test_llama_cpp_enforces_grammars_on_completions(llama: LlamaServer) -> None:
    found = await Endpoint("p", server="llamacpp", base_url=llama.url).probe(every=True)
    forms = found.forms["completions"]
    assert forms["grammar (llguidance)"] == forms["grammar"] == "enforced"
    assert forms["json_schema"] in ("enforced", "unknown")
    assert found.raw_completions is True
    assert found.context_length == 4096
    assert "SmolLM2" in found.served_model


async def test_llama_cpp_ignores_response_format_on_completions(llama: LlamaServer) -> None:
    model = Endpoint("p-generic", server="generic", base_url=llama.url, wire="completions")
    forms = (await model.probe(every=True)).forms["completions"]
    assert forms["response_format"] == "ignored"
    assert forms["structured_outputs.grammar"] == forms["structural_tag"] == "ignored"
    assert forms["grammar (llguidance)"] == forms["grammar"] == "enforced"
    assert await model.guarantee(TurnGrammar((), bool), prove=True) == "server"


async def test_llama_cpp_goes_on_behind_a_beginning_in_chat(llama: LlamaServer) -> None:
    found = await Endpoint("p-chat", server="llamacpp", base_url=llama.url, wire="chat").probe(every=True)
    assert found.prefill is True
    assert found.forms["chat"]["grammar"] == "enforced"


@pytest.mark.parametrize("wire", ["completions", "chat", "native"])
async def test_a_server_that_enforces_nothing_is_found_out(wire: Wire) -> None:
    with Heedless() as server:
        model = Endpoint("m", server="vllm", base_url=server.url, wire=wire)
        grammar = TurnGrammar((), bool)
        assert await model.guarantee(grammar) == "checked"
        with pytest.raises(GuaranteeError, match="ignored") as caught:
            await model.guarantee(grammar, prove=True)
        found = await model.probe()
        await model.aclose()
    assert set(found.forms[wire].values()) == {"ignored"}
    assert "structured_outputs" in caught.value.hint
    assert found.context_length == 2048
    assert found.served_model == "served"
    if wire == "completions":
        assert found.raw_completions is False  # nine tokens for a letter: it was put into a template


class Shallow(Heedless):
    """Holds to small grammars, and drops large ones without a word."""

    async def answer(self, asked: Asked, client: Client) -> None:
        grammar = asked.json.get("grammar", "") if asked.body else ""
        small = 0 < len(grammar) < 60
        self.text = "zqx7" if small else "Hello!"
        await super().answer(asked, client)


async def test_the_grammar_of_the_turn_is_proven_and_not_only_a_small_one() -> None:
    with Shallow() as server:
        model = Endpoint("m", server="llamacpp", base_url=server.url)
        with pytest.raises(GuaranteeError, match=r"grammar \(llguidance\): not for this grammar"):
            await model.guarantee(TurnGrammar((), list[bool]), prove=True)
        await model.aclose()


async def test_llama_cpp_drops_a_lark_grammar_that_does_not_compile_and_the_proof_sees_it(llama: LlamaServer) -> None:
    form = SERVERS["llamacpp"].forms["completions"][0]
    prober = Endpoint("p", server="llamacpp", base_url=llama.url)._prober("completions")  # pyright: ignore[reportPrivateUsage]
    good = '%llguidance {}\nstart: "a" | "b"\n'
    assert await prober.proves(form, {"grammar": good})
    assert not await prober.proves(form, {"grammar": good + "broken: (\n"})


async def test_where_no_wire_was_asked_for_the_one_that_enforces_is_taken(llama: LlamaServer) -> None:
    def now() -> str:
        """Tell the time."""
        return ""

    server = replace(SERVERS["llamacpp"], name="other", wires=("native", "chat"))
    model = Endpoint("p-auto", server=server, base_url=llama.url)
    wires: list[str] = [model.wire]
    assert await model.guarantee(TurnGrammar([now], bool), prove=True) == "server"
    wires.append(model.wire)
    assert wires == ["native", "chat"]
    asked_for = Endpoint("p-auto", server=server, base_url=llama.url, wire="native")
    with pytest.raises(GuaranteeError, match="'native'"):
        await asked_for.guarantee(TurnGrammar([now], bool), prove=True)


async def test_a_probe_is_kept_for_the_process() -> None:
    with Heedless() as server:
        first, second = (Endpoint("m", server="sglang", base_url=server.url) for _ in range(2))
        found = await first.probe()
        asked = len(server.requests)
        assert await first.probe() == found
        assert len(server.requests) == asked
        assert (await second.probe()) is found
        assert await first.probe(again=True) == found
        assert len(server.requests) > asked + 1
        await first.aclose()
        await second.aclose()


class Enforcing(Heedless):
    """Holds to GBNF in ``structured_outputs``, and to regular expressions there; ignores all other fields."""

    async def answer(self, asked: Asked, client: Client) -> None:
        fields: dict[str, Any] = asked.json.get("structured_outputs", {}) if asked.body else {}
        self.text = "zqx7" if "grammar" in fields or "regex" in fields else "Hello!"
        await super().answer(asked, client)


async def test_a_probe_ends_at_the_first_form_that_bites() -> None:
    with Enforcing() as server:
        model = Endpoint("m", server="vllm", base_url=server.url, wire="chat")
        found = await model.probe()
        assert found.forms["chat"] == {"structural_tag": "ignored", "structured_outputs.grammar": "enforced"}
        posted = [asked for asked in server.requests if asked.method == "POST"]
        assert len(posted) == 3  # and one looks whether a turn can be gone on with
        found = await model.probe(every=True)
        await model.aclose()
    assert found.forms["chat"]["structured_outputs.regex"] == "enforced"
    assert found.forms["chat"]["structured_outputs.json"] == "ignored"
    posted = [asked for asked in server.requests if asked.method == "POST"]
    assert len(posted) == 5, "what was seen is not asked for again"


async def test_where_the_strongest_form_bites_a_probe_is_two_requests() -> None:
    with Shallow() as server:
        model = Endpoint("m", server="llamacpp", base_url=server.url)
        await model.probe()
        await model.aclose()
    assert len([asked for asked in server.requests if asked.path == "/v1/completions"]) == 2


class Lax(Heedless):
    """Takes GBNF up to a size, and JSON schemas of any."""

    async def answer(self, asked: Asked, client: Client) -> None:
        fields: dict[str, Any] = asked.json if asked.body else {}
        self.text = "Hello!"
        if 0 < len(fields.get("grammar", "")) < 60:
            self.text = "zqx7"
        elif "json_schema" in fields:
            self.text = '{"zqx7": "zqx7"}'
        await super().answer(asked, client)


async def test_weaker_forms_are_tried_where_the_stronger_does_not_hold_the_turn() -> None:
    with Lax() as server:
        model = Endpoint("lax", server="llamacpp", base_url=server.url)
        assert "json_schema" not in (await model.probe()).forms["completions"]
        assert await model.guarantee(TurnGrammar((), list[bool]), prove=True) == "server"
        assert (await model.probe()).forms["completions"]["json_schema"] == "enforced"
        await model.aclose()


async def test_a_probe_is_of_one_row_of_the_table() -> None:
    """Two rows may give one name to different fields, and try different ones."""
    with Enforcing() as server:
        generic = Endpoint("m", server="generic", base_url=server.url, wire="chat")
        await generic.probe(every=True)
        vllm = Endpoint("m", server="vllm", base_url=server.url, wire="chat")
        assert "structured_outputs.regex" in (await vllm.probe(every=True)).forms["chat"]
        few = replace(SERVERS["vllm"], forms={"chat": SERVERS["vllm"].forms["chat"][-1:]})
        own = Endpoint("m", server=few, base_url=server.url, wire="chat")
        assert (await own.probe()).forms["chat"] == {"structured_outputs.regex": "enforced"}
        for model in (generic, vllm, own):
            await model.aclose()


async def test_a_proof_changes_no_wire_before_it_is_done() -> None:
    """Others write turns meanwhile, and more than one may be proving."""
    with Heedless() as server:
        model = Endpoint("m", server="vllm", base_url=server.url)
        seen: set[str] = set()
        failed = 0

        async def prove() -> None:
            nonlocal failed
            with pytest.raises(GuaranteeError):
                await model.guarantee(TurnGrammar((), bool), prove=True)
            failed += 1

        async def watch() -> None:
            while failed < 3:
                seen.add(model.wire)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            for _ in range(3):
                tasks.start_soon(prove)
        await model.aclose()
    assert seen == {"completions"}
    assert model.wire == "completions"


async def test_those_who_prove_at_once_end_on_one_wire() -> None:
    with Enforcing() as server:
        row = replace(SERVERS["vllm"], name="apart", wires=("native", "chat", "completions"))
        model = Endpoint("m", server=row, base_url=server.url)
        came: list[str] = []

        async def prove() -> None:
            came.append(await model.guarantee(TurnGrammar((), bool), prove=True))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(prove)
        await model.aclose()
    assert came == ["server"] * 3
    assert model.wire == "chat"


async def test_a_server_that_cannot_be_asked_is_not_remembered_as_one_that_ignores() -> None:
    model = Endpoint("m", server="vllm", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(ModelUnavailableError):
        await model.guarantee(TurnGrammar((), bool), prove=True)
    with Heedless() as server:
        moved = Endpoint("m", server="vllm", base_url=server.url)
        assert await moved.guarantee(TurnGrammar((), bool)) == "checked"


@pytest.mark.parametrize(
    ("kind", "answer", "seen"),
    [
        ("gbnf", "zqx7", "enforced"),
        ("gbnf", "Hello! zqx7", "ignored"),
        ("gbnf", "", "ignored"),
        ("json_schema", '{"zqx7": "zqx7"}', "enforced"),
        ("json_schema", '{\n  "zqx7"', "enforced"),
        ("json_schema", "{\n\n\n", "unknown"),
        ("json_schema", "Hello", "ignored"),
    ],
)
def test_an_answer_bites_or_does_not(kind: str, answer: str, seen: str) -> None:
    form = Form("f", kind, {"f": PLACE})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # of the list
    assert bites(form, answer) == seen


def test_every_form_of_every_row_can_be_asked_for() -> None:
    for row in SERVERS.values():
        for forms in row.forms.values():
            for form in forms:
                assert "zqx7" in json.dumps(question(form))
