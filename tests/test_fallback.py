from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_agent import Agent
from hermes_agent.errors import (
    ConfigurationError,
    ContextLengthError,
    GuaranteeError,
    ModelError,
    ModelUnavailableError,
)
from hermes_agent.formats import TurnGrammar, dialect
from hermes_agent.formats.dialects import Dialect
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Guarantee, Model, Request
from hermes_agent.models.fallback import Fallback
from hermes_agent.testing import ScriptedModel

ASK = Request([UserMessage("Hi")])


class Failing:
    """Writes some chunks, then raises. Counts how often it was asked and how often it was left tidily."""

    def __init__(
        self, error: Exception, *, after: Sequence[Chunk] = (), claims: Guarantee | Exception = "token"
    ) -> None:
        self.error, self.after = error, after
        self.claims: Guarantee | Exception = claims
        self.asked = self.left = self.proofs = 0
        self.name = "failing"
        self.dialect: Dialect = dialect("chatml")

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        self.proofs += prove
        if isinstance(self.claims, Exception):
            raise self.claims
        return self.claims

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked += 1
        try:
            for chunk in self.after:
                yield chunk
            raise self.error
        finally:
            self.left += 1


def write(model: Model, request: Request = ASK) -> list[Chunk]:
    async def go() -> list[Chunk]:
        async with aclosing(model.generate(request)) as chunks:
            return [chunk async for chunk in chunks]

    return anyio.run(go)


def test_it_is_a_model() -> None:
    assert isinstance(Fallback(ScriptedModel([])), Model)


@pytest.mark.parametrize("kind", [ModelError, ModelUnavailableError, ContextLengthError, GuaranteeError])
def test_a_model_that_cannot_write_is_passed_over(kind: type[ModelError]) -> None:
    first = Failing(kind("no"))
    chunks = write(Fallback(first, ScriptedModel(["Hello there."])))
    assert "".join(chunk.text for chunk in chunks) == "Hello there."
    assert (first.asked, first.left) == (1, 1)


def test_chunks_before_any_text_do_not_count_as_given_out() -> None:
    chunks = write(Fallback(Failing(ModelError("no"), after=[Chunk(""), Chunk("")]), ScriptedModel(["Hello."])))
    assert [chunk.text for chunk in chunks] == ["Hello.", ""]


def test_after_the_first_text_an_error_is_an_error() -> None:
    second = ScriptedModel(["Hello."])
    error = ModelUnavailableError("gone")
    seen: list[str] = []

    async def go() -> None:
        async with aclosing(Fallback(Failing(error, after=[Chunk("He")]), second).generate(ASK)) as chunks:
            async for chunk in chunks:
                seen.append(chunk.text)  # noqa: PERF401  # what came before the error is to be kept

    with pytest.raises(ModelUnavailableError) as caught:
        anyio.run(go)
    assert caught.value is error
    assert seen == ["He"]
    assert second.requests == []


@given(
    st.lists(st.lists(st.sampled_from(["", "a", "bc"]), max_size=4), max_size=4),
    st.lists(st.sampled_from(["", "x", "yz"]), max_size=4),
)
def test_what_is_written_is_never_written_by_two(failing: list[list[str]], last: list[str]) -> None:
    models = [Failing(ModelError("no"), after=[Chunk(text) for text in texts]) for texts in failing]
    fallback = Fallback(*models, ScriptedModel(["".join(last)], chunk_size=1))
    expected = next((texts for texts in failing if any(texts)), None)
    seen: list[str] = []

    async def go() -> None:
        async with aclosing(fallback.generate(ASK)) as chunks:
            async for chunk in chunks:
                seen.append(chunk.text)  # noqa: PERF401  # what came before the error is to be kept

    if expected is None:
        anyio.run(go)
    else:
        with pytest.raises(ModelError):
            anyio.run(go)
    assert "".join(seen) == "".join(last if expected is None else expected)


def test_only_the_errors_that_are_named_make_it_go_on() -> None:
    with pytest.raises(ContextLengthError):
        write(Fallback(Failing(ContextLengthError("long")), ScriptedModel(["x"]), on=(ModelUnavailableError,)))
    with pytest.raises(ValueError, match="a bug"):
        write(Fallback(Failing(ValueError("a bug")), ScriptedModel(["x"])))
    assert write(Fallback(Failing(TimeoutError()), ScriptedModel(["x"]), on=(ModelError, TimeoutError)))[0].text == "x"


def test_when_all_fail_the_error_names_each() -> None:
    first, second = ModelUnavailableError("no route", hint="start it"), TimeoutError("slow")
    with pytest.raises(ModelError) as caught:
        write(Fallback(Failing(first), Failing(second), on=(ModelError, TimeoutError)))
    assert type(caught.value) is ModelError
    assert "failing: no route" in str(caught.value)
    assert "failing: TimeoutError('slow')" in str(caught.value)
    assert "hint: start it" in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert cast("ExceptionGroup[Exception]", cause).exceptions == (first, second)


@pytest.mark.parametrize("kind", [ContextLengthError, GuaranteeError, ModelUnavailableError])
def test_when_all_fail_alike_the_error_is_of_their_kind(kind: type[ModelError]) -> None:
    with pytest.raises(kind):
        write(Fallback(Failing(kind("a")), Failing(kind("b"))))


def test_a_model_that_failed_rests_for_a_while() -> None:
    now = [100.0]
    first, second = Failing(ModelUnavailableError("no")), ScriptedModel(["a", "b", "c"])
    fallback = Fallback(first, second, cooldown=10, clock=lambda: now[0])
    write(fallback)
    assert first.asked == 1
    now[0] = 109.9
    write(fallback)
    assert first.asked == 1
    now[0] = 110.0
    write(fallback)
    assert first.asked == 2


def test_a_resting_model_is_asked_when_there_is_no_other() -> None:
    first, second = Failing(ModelUnavailableError("no")), ScriptedModel(["a"])
    fallback = Fallback(first, second, cooldown=10, clock=lambda: 0.0)
    write(fallback)
    with pytest.raises(ModelError):  # the script has ended
        write(fallback)
    assert first.asked == 2


@pytest.mark.parametrize("kind", [ContextLengthError, GuaranteeError])
def test_a_turn_that_did_not_fit_is_not_held_against_a_model(kind: type[ModelError]) -> None:
    first = Failing(kind("too much"))
    fallback = Fallback(first, ScriptedModel(["a", "b"]), cooldown=10, clock=lambda: 0.0)
    write(fallback)
    write(fallback)
    assert first.asked == 2


def test_each_turn_is_read_in_the_dialect_of_its_writer() -> None:
    turn = "<scratch_pad>\nGoal\n</scratch_pad>\nHello."
    pad = ScriptedModel([turn], dialect="hermes-3-scratch-pad")
    result = Agent(Fallback(Failing(ModelError("no")), pad), reasoning="auto").run_sync("Hi")
    assert (result.reasoning, result.output) == ("Goal", "Hello.")
    with pytest.raises(ModelError):  # the plain dialect takes the tags for text: this is why it matters
        Agent(Fallback(Failing(ModelError("no")))).run_sync("Hi")
    plain = Agent(ScriptedModel([turn]), reasoning="auto").run_sync("Hi")
    assert plain.reasoning is None


def test_the_dialect_goes_with_the_first_chunk_alone() -> None:
    chunks = write(Fallback(ScriptedModel(["ab"], chunk_size=1, dialect="qwen3")))
    assert [chunk.dialect and chunk.dialect.name for chunk in chunks] == ["qwen3", None, None]


def test_fallbacks_nest() -> None:
    inner = Fallback(Failing(ModelError("no")), ScriptedModel(["Hi."], dialect="qwen3"))
    chunks = write(Fallback(Failing(ModelError("no")), inner))
    assert chunks[0].dialect == dialect("qwen3")


class Taking:
    """Writes the rest of turns; fails when it is told to."""

    def __init__(self, name: str, *texts: str) -> None:
        self.name, self.texts, self.away = name, list(texts), False
        self.dialect: Dialect = dialect("chatml")
        self.asked: list[Request] = []

    async def guarantee(self, grammar: TurnGrammar, *, prove: bool = False) -> Guarantee:
        return "checked"

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.away:
            raise ModelUnavailableError(f"{self.name} is away")
        self.asked.append(request)
        for char in self.texts.pop(0):
            yield Chunk(char)
        yield Chunk("", "stop")


def test_a_turn_goes_on_with_the_model_that_began_it() -> None:
    first, second = Taking("first", "late"), Taking("second", "abc", "def")
    fallback = Fallback(first, second)
    first.away = True
    assert "".join(chunk.text for chunk in write(fallback)) == "abc"
    first.away = False  # it is preferred again, for turns that begin
    assert "".join(c.text for c in write(fallback, replace(ASK, prefix="abc+"))) == "def"
    second.away = True
    with pytest.raises(ModelUnavailableError, match="second is away"):
        write(fallback, replace(ASK, prefix="abc+def+"))
    assert first.asked == []
    assert "".join(chunk.text for chunk in write(fallback)) == "late"


def test_a_turn_that_was_left_goes_on_with_the_model_that_began_it() -> None:
    first, second = Taking("first", "late"), Taking("second", "abc", "def")
    fallback = Fallback(first, second)
    first.away = True

    async def leave() -> None:
        async with aclosing(fallback.generate(ASK)) as chunks:
            async for _ in chunks:
                break

    anyio.run(leave)
    first.away = False
    assert "".join(c.text for c in write(fallback, replace(ASK, prefix="a[]"))) == "def"


def test_of_two_turns_that_begin_alike_each_goes_on_with_its_own() -> None:
    first, second = Taking("first", "abc", "1"), Taking("second", "abc", "2")
    fallback = Fallback(first, second)
    other = Request([UserMessage("Hi")])
    write(fallback, ASK)
    first.away = True
    write(fallback, other)
    first.away = False
    assert write(fallback, replace(ASK, prefix="abc+"))[0].text == "1"
    assert write(fallback, replace(other, prefix="abc+"))[0].text == "2"


def test_a_beginning_that_nobody_wrote_is_taken_up_by_whoever_can() -> None:
    first, second = Taking("first"), Taking("second", "abc")
    first.away = True
    assert write(Fallback(first, second), replace(ASK, prefix="x"))[0].text == "a"


def test_names() -> None:
    fallback = Fallback(ScriptedModel([]), Failing(ModelError("no")), "embedded")
    assert fallback.name == "fallback(scripted, failing, embedded)"
    with pytest.raises(ConfigurationError, match="no models"):
        Fallback()
    with pytest.raises(ConfigurationError, match="unknown model 'nonsense'"):
        Fallback("nonsense")
    with pytest.raises(ConfigurationError, match="cooldown=-1"):
        Fallback("embedded", cooldown=-1)


def promised(fallback: Fallback, *, prove: bool = False) -> Guarantee:
    async def go() -> Guarantee:
        return await fallback.guarantee(TurnGrammar((), int), prove=prove)

    return anyio.run(go)


def test_the_guarantee_is_the_weakest() -> None:
    strong, weak = ScriptedModel([], guarantee="token"), ScriptedModel([], guarantee="server")
    assert promised(Fallback(strong, strong)) == "token"
    assert promised(Fallback(strong, weak)) == "server"
    assert promised(Fallback(strong, ScriptedModel([])), prove=False) == "checked"
    with pytest.raises(GuaranteeError):
        promised(Fallback(strong, ScriptedModel([])), prove=True)


def test_a_model_that_could_not_be_asked_proves_itself_before_it_writes() -> None:
    away = Failing(ModelError("no"), claims=ModelUnavailableError("away"))
    fallback = Fallback(away, ScriptedModel(["1", "2", "3"], guarantee="token"))
    assert promised(fallback, prove=True) == "token"
    ask = Request([UserMessage("Hi")], grammar=TurnGrammar((), int))
    away.claims = GuaranteeError("it ignores the grammar")
    assert write(fallback, ask)[0].text == "1"
    assert away.asked == 0  # it is back, but not as strong as was promised
    away.claims = "token"
    write(fallback, ask)
    assert (away.asked, away.proofs) == (1, 3)
    write(fallback, ask)
    assert (away.asked, away.proofs) == (2, 3)


def test_nobody_can_be_asked() -> None:
    with pytest.raises(ModelUnavailableError, match="none of 1 models"):
        promised(Fallback(Failing(ModelError("no"), claims=ModelUnavailableError("away"))), prove=True)


def test_leaving_the_turn_leaves_the_model() -> None:
    model = Failing(ModelError("no"), after=[Chunk("a"), Chunk("b")])

    async def go() -> None:
        async with aclosing(Fallback(model).generate(ASK)) as chunks:
            async for _ in chunks:
                break

    anyio.run(go)
    assert (model.asked, model.left) == (1, 1)
