"""Objects of Outlines that only Outlines can drive, played by subclasses of its own base classes."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outlines import exceptions
from outlines.inputs import Chat
from outlines.models.base import AsyncModel, Model, ModelTypeAdapter
from outlines.types import CFG, JsonSchema, Regex

from hermes_agent import Agent, Sampling
from hermes_agent.errors import ContextLengthError, GuaranteeError, ModelError, ModelUnavailableError
from hermes_agent.formats import TurnGrammar
from hermes_agent.formats.grammar import Tags
from hermes_agent.messages import SystemMessage, UserMessage
from hermes_agent.models import resolve
from hermes_agent.models.base import Chunk, Request
from hermes_agent.models.base import Model as OurModel
from hermes_agent.models.outlines_model import OutlinesModel
from hermes_agent.reasoning import Reasoning


class Adapter(ModelTypeAdapter):
    """Takes chats, and the output types it is told to take."""

    def __init__(self, *takes: type) -> None:
        self.takes = takes

    def format_input(self, model_input: Any) -> Any:
        if isinstance(model_input, Chat | str):
            return model_input
        raise TypeError

    def format_output_type(self, output_type: Any = None) -> Any:
        if output_type is None or isinstance(output_type, self.takes):
            return output_type
        raise TypeError(f"{output_type!r} is not available")


class RawAdapter(Adapter):
    def format_input(self, model_input: Any) -> Any:
        if isinstance(model_input, str):
            return model_input
        raise NotImplementedError


class TemplateAdapter(Adapter):
    has_chat_template = True

    def format_input(self, model_input: Any) -> Any:
        return Chat([{"role": "user", "content": model_input}]) if self.has_chat_template else model_input


class Blocking(Model):
    """Writes the given pieces, and remembers what it was asked."""

    def __init__(
        self, pieces: list[Any], adapter: ModelTypeAdapter, *, streams: bool = True, error: Exception | None = None
    ) -> None:
        self.pieces, self.type_adapter, self.streams, self.error = pieces, adapter, streams, error
        self.asked: list[tuple[Any, Any, dict[str, Any]]] = []
        self.closed = 0
        self.threads: set[int] = set()

    def generate(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> Any:
        self.asked.append((self.type_adapter.format_input(model_input), output_type, inference_kwargs))
        if self.error is not None:
            raise self.error
        return "".join(self.pieces)

    def generate_batch(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> Any:
        raise NotImplementedError

    def generate_stream(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> Iterator[Any]:
        if not self.streams:
            raise NotImplementedError
        self.asked.append((self.type_adapter.format_input(model_input), output_type, inference_kwargs))
        return self._pieces()

    def _pieces(self) -> Iterator[Any]:
        try:
            for piece in self.pieces:
                self.threads.add(threading.get_ident())
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1


class Async(AsyncModel):
    def __init__(self, pieces: list[Any], adapter: ModelTypeAdapter, *, streams: bool = True) -> None:
        self.pieces, self.type_adapter, self.streams = pieces, adapter, streams
        self.asked: list[tuple[Any, Any, dict[str, Any]]] = []
        self.closed = 0

    async def generate(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> Any:
        self.asked.append((model_input, output_type, inference_kwargs))
        return "".join(self.pieces)

    async def generate_batch(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> Any:
        raise NotImplementedError

    async def generate_stream(  # type: ignore[override, misc]  # as the async classes of Outlines are written
        self, model_input: Any, output_type: Any = None, **inference_kwargs: Any
    ) -> AsyncIterator[Any]:
        if not self.streams:
            raise NotImplementedError
        self.asked.append((model_input, output_type, inference_kwargs))
        try:
            for piece in self.pieces:
                yield piece
        finally:
            self.closed += 1


ASK = Request([SystemMessage("Be brief."), UserMessage("Hi")])


def write(model: OurModel, request: Request = ASK) -> str:
    async def go() -> str:
        async with aclosing(model.generate(request)) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    return anyio.run(go)


def test_agent_takes_the_object_as_it_is() -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    turns = iter([['<tool_call>\n{"name": "add", ', '"arguments": {"a": 1, "b": 2}}\n</tool_call>'], ["3"]])

    class Turns(Blocking):
        def _pieces(self) -> Iterator[Any]:
            yield from next(turns)

    model = Turns([], Adapter())
    result = Agent(model, tools=[add], output=int).run_sync("1 + 2?")
    assert result.output == 3
    assert result.guarantee == "checked"
    chat = model.asked[-1][0]
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant", "user"]
    assert "<tools>" in chat.messages[0]["content"]
    assert chat.messages[2]["content"].startswith("<tool_call>")
    assert chat.messages[3]["content"] == "<tool_response>\n3\n</tool_response>"


def test_resolve_adapts_it_once() -> None:
    model = Blocking(["Hi."], Adapter())
    ours = resolve(model)
    assert isinstance(ours, OutlinesModel)
    assert isinstance(ours, OurModel)
    assert ours.name == "outlines:Blocking"


def test_raw_prompts_where_the_object_takes_them() -> None:
    model = Blocking(["Hi."], RawAdapter())
    assert write(OutlinesModel(model, dialect="hermes-3")) == "Hi."
    prompt = model.asked[0][0]
    assert prompt == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_an_object_with_a_chat_template_gets_our_prompt_all_the_same() -> None:
    model = Blocking(["Hi."], TemplateAdapter())
    assert write(OutlinesModel(model)) == "Hi."
    assert model.asked[0][0].endswith("<|im_start|>assistant\n")
    assert model.type_adapter.has_chat_template is True  # type: ignore[attr-defined]  # the user's object is left alone


def test_a_turn_is_taken_up_where_the_prompt_is_raw() -> None:
    request = Request([UserMessage("Hi")], prefix="<think>\nHm")
    model = Blocking([" ok"], RawAdapter())
    write(OutlinesModel(model), request)
    assert model.asked[0][0].endswith("<|im_start|>assistant\n<think>\nHm")
    with pytest.raises(ModelError, match="cannot go on behind the beginning of a turn"):
        write(OutlinesModel(Blocking([], Adapter())), request)


def thinking(model: OurModel, *, max_tokens: int | None = None, prefix: str = "", grammar: Any = None) -> list[Chunk]:
    reasoning = Reasoning("on", max_tokens=3)
    request = Request(
        [UserMessage("Hi")], reasoning=reasoning, max_tokens=max_tokens, prefix=prefix, grammar=grammar
    )  # fmt: skip

    async def go() -> list[Chunk]:
        async with aclosing(model.generate(request)) as chunks:
            return [chunk async for chunk in chunks]

    return anyio.run(go)


class Thinking(Blocking):
    """Thinks without end, until its thought is closed for it."""

    def generate_stream(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> Iterator[Any]:
        turn = model_input.rpartition("assistant\n")[2]
        self.pieces = ["Yes", ".", "<|im_end|>"] if "</think>" in turn else ["<think>", "\n", *"abcdefgh"]
        return super().generate_stream(model_input, output_type, **inference_kwargs)


def test_a_budget_ends_a_thought() -> None:
    model = Thinking([], RawAdapter(CFG))
    grammar, ours = TurnGrammar((), reasoning="on"), OutlinesModel(model)
    chunks = thinking(ours, max_tokens=90, grammar=grammar)
    assert "".join(chunk.text for chunk in chunks) == "<think>\nab\n</think>\nYes."
    assert chunks[-1] == Chunk("", "stop", thinking_tokens=3, thought_cut=True)
    assert model.closed == 2
    (first, whole, _), (second, rest, _) = model.asked
    assert second == first + "<think>\nab\n</think>\n"
    tags = Tags.text(ours.dialect)
    assert (whole.definition, rest.definition) == (grammar.gbnf(tags), grammar.after_thought().gbnf(tags))


def test_a_budget_ends_a_thought_that_is_taken_up() -> None:
    model = Thinking([], RawAdapter())
    chunks = thinking(OutlinesModel(model), prefix="<think>\nHm, ")
    assert chunks[-1].thought_cut
    assert model.asked[1][0].endswith("Hm, <think>\na\n</think>\n")


def test_a_thought_within_its_budget_is_left_alone() -> None:
    model = Blocking(["<think>", "a", "</think>", "\nYes."], RawAdapter())
    chunks = thinking(OutlinesModel(model))
    assert "".join(chunk.text for chunk in chunks) == "<think>a</think>\nYes."
    assert (chunks[-1].thought_cut, len(model.asked)) == (False, 1)


@pytest.mark.parametrize(
    "model",
    [
        Blocking(["x"], Adapter()),
        Blocking(["x"], RawAdapter(), streams=False),
        Async(["x"], RawAdapter(), streams=False),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match=r"cannot keep the budget of a thought, Reasoning\(max_tokens"):
        thinking(OutlinesModel(model))
    assert not model.asked


def test_calls_inside_thoughts_need_a_raw_prompt() -> None:
    model = Blocking(["x"], Adapter())
    with pytest.raises(ModelError, match="inline"):
        write(OutlinesModel(model), Request([UserMessage("Hi")], reasoning=Reasoning("auto", calls="inline")))
    assert not model.asked


@given(st.lists(st.sampled_from(["a", "<", "|", "<|im", "_end|>", "<|im_end|>", "b"]), max_size=8))
def test_nothing_comes_behind_a_stop(pieces: list[str]) -> None:
    model = Blocking(pieces, RawAdapter())
    assert write(OutlinesModel(model)) == "".join(pieces).partition("<|im_end|>")[0]
    assert model.closed == 1


def test_pieces_that_are_no_text() -> None:
    assert write(OutlinesModel(Blocking([None, "a", ["b", "c"]], Adapter()))) == "ab"


@pytest.mark.parametrize("streams", [True, False])
def test_async_objects(streams: bool) -> None:
    model = Async(["H", "i."], Adapter(), streams=streams)
    assert write(OutlinesModel(model)) == "Hi."
    assert len(model.asked) == 1


def test_an_object_that_cannot_stream_writes_in_one_piece() -> None:
    assert write(OutlinesModel(Blocking(["H", "i."], Adapter(), streams=False))) == "Hi."


@pytest.mark.parametrize("kind", [Blocking, Async])
def test_leaving_early_closes_the_stream(kind: type[Any]) -> None:
    model = kind(["a", "b", "c"], Adapter())

    async def go() -> None:
        async with aclosing(OutlinesModel(model).generate(ASK)) as chunks:
            async for _ in chunks:
                break

    anyio.run(go)
    assert model.closed == 1


def test_a_blocking_object_writes_one_turn_at_a_time() -> None:
    inside, most = 0, 0

    class Counting(Blocking):
        def _pieces(self) -> Iterator[Any]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            yield "a"
            yield "b"
            inside -= 1

    ours = OutlinesModel(Counting([], Adapter()))

    async def one() -> None:
        async with aclosing(ours.generate(ASK)) as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == "ab"

    async def go() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)

    anyio.run(go)
    assert most == 1


def output_type(model: Any, grammar: TurnGrammar | None) -> Any:
    write(OutlinesModel(model), Request([UserMessage("Hi")], grammar=grammar))
    return model.asked[-1][1]


def tool(a: int) -> int:
    return a


def test_the_strongest_output_type_that_the_object_takes() -> None:
    typed = TurnGrammar((), int)
    found = output_type(Blocking(["1"], Adapter(CFG, JsonSchema, Regex)), typed)
    assert isinstance(found, CFG)
    assert found.definition == typed.gbnf()
    assert isinstance(output_type(Blocking(["1"], Adapter(JsonSchema, Regex)), typed), JsonSchema)
    assert output_type(Blocking(["1"], Adapter()), typed) is None
    assert output_type(Blocking(["1"], Adapter(CFG)), None) is None
    # A schema would switch tools off.
    assert output_type(Blocking(["1"], Adapter(JsonSchema)), TurnGrammar((tool,), int)) is None
    assert isinstance(output_type(Blocking(["1"], Adapter(CFG)), TurnGrammar((tool,), int)), CFG)


def test_settings_go_by_the_names_of_the_class() -> None:
    class LlamaCpp(Blocking):
        pass

    class Anthropic(Blocking):
        pass

    sampling = Sampling(temperature=0.5, top_k=3, repetition_penalty=1.2, seed=7)
    llama = LlamaCpp([], RawAdapter())
    write(OutlinesModel(llama, arguments={"top_k": 9}), Request([], sampling=sampling, max_tokens=5))
    assert llama.asked[0][2] == {
        "temperature": 0.5, "top_k": 9, "repeat_penalty": 1.2, "seed": 7, "max_tokens": 5, "stop": ["<|im_end|>"],
    }  # fmt: skip
    claude = Anthropic([], Adapter())
    write(OutlinesModel(claude), Request([], sampling=sampling))
    assert claude.asked[0][2] == {"temperature": 0.5, "top_k": 3, "max_tokens": 4096}
    unknown = Blocking([], Adapter())
    write(OutlinesModel(unknown), Request([], sampling=sampling, max_tokens=5))
    assert unknown.asked[0][2] == {}


def test_vllm_gets_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = ModuleType("vllm")
    vllm.SamplingParams = lambda **settings: settings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)

    class VLLMOffline(Blocking):
        pass

    model = VLLMOffline([], TemplateAdapter(), streams=False)
    write(OutlinesModel(model), Request([], max_tokens=None))
    assert model.asked[0][2] == {
        "sampling_params": {"max_tokens": None, "stop": ["<|im_end|>"], "skip_special_tokens": False}
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("Requested tokens (9) exceed context window of 8"), ContextLengthError),
        (exceptions.APIConnectionError("no route"), ModelUnavailableError),
        (exceptions.ServerError(provider="x"), ModelUnavailableError),
        (exceptions.AuthenticationError(provider="x"), ModelUnavailableError),
        (exceptions.BadRequestError("bad"), ModelError),
        (ModuleNotFoundError("no llama_cpp"), ModelUnavailableError),
        (RuntimeError("boom"), ModelError),
    ],
)
@pytest.mark.parametrize("streams", [True, False])
def test_errors_become_ours(error: Exception, kind: type[ModelError], streams: bool) -> None:
    with pytest.raises(ModelError) as caught:
        write(OutlinesModel(Blocking([], Adapter(), streams=streams, error=error)))
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_after_an_error_the_next_turn_can_be_written() -> None:
    model = Blocking(["a"], Adapter(), error=RuntimeError("boom"))
    ours = OutlinesModel(model)
    with pytest.raises(ModelError):
        write(ours)
    model.error = None
    assert write(ours) == "a"


def test_strict_is_refused() -> None:
    ours = OutlinesModel(Blocking([], Adapter()))
    assert anyio.run(ours.guarantee, TurnGrammar()) == "checked"
    with pytest.raises(GuaranteeError, match="cannot be proved"):
        Agent(ours, constrain="strict").run_sync("Hi")


def test_what_a_gguf_file_tells() -> None:
    model = Blocking([], TemplateAdapter())
    metadata = {"general.name": "Hermes 4 14B", "tokenizer.chat_template": "{{ '<|im_start|>' }}"}
    model.model = SimpleNamespace(metadata=metadata)  # type: ignore[attr-defined]  # as LlamaCpp has it
    ours = OutlinesModel(model)
    assert ours.name == "outlines:Blocking(Hermes 4 14B)"
    assert ours.dialect.name == "hermes-4-14b"


def test_chunks_end_as_chunks_do() -> None:
    async def go() -> list[Chunk]:
        async with aclosing(OutlinesModel(Blocking(["a<"], RawAdapter())).generate(ASK)) as chunks:
            return [chunk async for chunk in chunks]

    assert anyio.run(go) == [Chunk("a"), Chunk("<", "stop")]
