"""A run that is watched: when things are told, the views, progress of tools, and how it ends when nobody reads on."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Annotated, Any, assert_type

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

from hermes_agent import Agent, ConfigurationError, InvalidOutputError, JsonSchema, Limits, RunContext, RunStream
from hermes_agent.events import (
    Event,
    Final,
    PartialOutput,
    ReasoningDelta,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
)
from hermes_agent.formats import TurnParser
from hermes_agent.formats.markup import markup
from hermes_agent.formats.tags import DEFAULT_STOPS, THINK_CLOSE, THINK_OPEN
from hermes_agent.messages import AssistantMessage, ToolCall
from hermes_agent.models.base import Chunk, Request
from hermes_agent.testing import ScriptedModel

BACKENDS = ["asyncio", "trio"]


class Report(BaseModel):
    city: str
    coat: bool


REPORT = '{"city": "Paris", "coat": true}'


def call(name: str, **arguments: Any) -> AssistantMessage:
    return AssistantMessage(tool_calls=(ToolCall(name, arguments),))


# When a token is told

TAGS = tuple(markup(DEFAULT_STOPS, (THINK_OPEN, THINK_CLOSE), False).kinds)


def begun_tag(text: str) -> int:
    """Where the end of ``text`` begins that may be the beginning of a tag; its length if none does."""
    ends = (at for at in range(len(text)) if any(tag.startswith(text[at:].lower()) for tag in TAGS))
    return next(ends, len(text))


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab<>/ \n|tol_chink"), max_size=40), st.booleans())
@example("a <tool_cab < </thix <|im_ex", False)
@example("a <tool_cab < </thix <|im_ex", True)
def test_text_is_told_with_the_chunk_behind_which_it_can_be_no_tag(text: str, thinking: bool) -> None:
    """The law: after each character all is told but the beginning of a tag at the end, and white space before it.

    Where text follows, white space is kept back because it is dropped before markup; in a thinking block only
    newlines are.
    """
    if any(tag in text.lower() for tag in TAGS):
        return
    parser = TurnParser()
    if thinking:
        parser.feed("<think>")
    told = ""
    for end, character in enumerate(text, 1):
        told += "".join(e.text for e in parser.feed(character) if isinstance(e, (TextDelta, ReasoningDelta)))
        certain = text[: begun_tag(text[:end])]
        assert told == (certain.strip("\r\n") if thinking else certain.rstrip())


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        # Each character comes with the chunk that brings it ...
        ("abc", ["a", "b", "c"]),
        # ... white space with the character behind it ...
        ("a  b\nc", ["a", "", "", "  b", "", "\nc"]),
        # ... and what may be a tag with the character that makes it none.
        ("a<b", ["a", "", "<b"]),
        ("1 <tool_b", ["1", "", "", "", "", "", "", "", " <tool_b"]),
        ("x</t?", ["x", "", "", "", "</t?"]),
        ("a<thi>", ["a", "", "", "", "", "<thi>"]),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_character_is_told_as_soon_as_it_is_no_tag(text: str, chunks: list[str], backend: str) -> None:
    """At the parser, and through an agent whose model writes the next character when this one was told."""
    parser = TurnParser()
    assert ["".join(e.text for e in parser.feed(c) if isinstance(e, TextDelta)) for c in text] == chunks

    told: list[str] = []

    class OneByOne(ScriptedModel):
        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            for character in text:
                told.append("")
                yield Chunk(character)
                await settled()
            yield Chunk("", "stop")

    async def go() -> None:
        async with Agent(OneByOne([])).stream("?") as stream:
            async for piece in stream.text():
                told[-1] += piece

    anyio.run(go, backend=backend)
    assert told == chunks


async def settled() -> None:
    """Let the reader read what is there."""
    for _ in range(10):
        await checkpoint()


# Progress


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_is_told_from_threads_and_tasks_between_start_and_finish(backend: str) -> None:
    def threaded(ctx: RunContext, n: int) -> int:
        for i in range(n):
            ctx.progress(f"row {i}", i, n)
        return n

    async def on_loop(ctx: RunContext, n: int) -> int:
        for i in range(n):
            ctx.progress(f"page {i}", done=i)
            await checkpoint()
        return n

    turn = AssistantMessage(tool_calls=(ToolCall("threaded", {"n": 3}), ToolCall("on_loop", {"n": 2})))

    async def go() -> list[Event]:
        async with Agent(ScriptedModel([turn, "Done."]), tools=[threaded, on_loop]).stream("?") as stream:
            return [event async for event in stream]

    events = anyio.run(go, backend=backend)
    for name, expected in {
        "threaded": [("row 0", 0, 3), ("row 1", 1, 3), ("row 2", 2, 3)],
        "on_loop": [("page 0", 0, None), ("page 1", 1, None)],
    }.items():
        own = [e for e in events if isinstance(e, (ToolStarted, ToolProgress, ToolFinished)) and e.call.name == name]
        assert isinstance(own[0], ToolStarted)
        assert isinstance(own[-1], ToolFinished)
        told = [(e.message, e.done, e.total) for e in own if isinstance(e, ToolProgress)]
        assert told == expected
        assert len(own) == len(told) + 2


def test_progress_does_nothing_where_nobody_watches() -> None:
    def busy(ctx: RunContext) -> str:
        ctx.progress("half", 1, 2)
        return "ok"

    assert Agent(ScriptedModel([call("busy"), "Done."]), tools=[busy]).run_sync("?").output == "Done."
    RunContext(deps=None).progress("alone")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thread_left_behind_tells_nothing_and_comes_to_its_end(backend: str) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def stubborn(ctx: RunContext) -> None:
        started.set()
        assert go_on.wait(30)
        ctx.progress("late")
        ended.set()

    async def late() -> list[Event]:
        model = ScriptedModel([call("stubborn"), "Done."])
        async with Agent(model, tools=[stubborn], limits=Limits(tool_seconds=0.01)).stream("?") as stream:
            events: list[Event] = []
            async for event in stream:
                events.append(event)
                if isinstance(event, ToolFinished):
                    go_on.set()
                    await anyio.to_thread.run_sync(ended.wait, 30)
            return events

    assert not any(isinstance(event, ToolProgress) for event in anyio.run(late, backend=backend))

    started.clear()
    go_on.clear()
    ended.clear()

    async def leave() -> None:
        model = ScriptedModel([call("stubborn")])
        async with Agent(model, tools=[stubborn], limits=Limits(tool_seconds=None)).stream("?") as stream:
            async for event in stream:
                if isinstance(event, ToolStarted):
                    await anyio.to_thread.run_sync(started.wait, 30)
                    break

    anyio.run(leave, backend=backend)  # its loop is closed now
    go_on.set()
    assert ended.wait(30)


# Partial outputs and views


def events_of(agent: Agent[None, Any]) -> list[Event]:
    async def go() -> list[Event]:
        async with agent.stream("?") as stream:
            return [event async for event in stream]

    return anyio.run(go)


def test_partial_outputs_end_with_the_answer() -> None:
    events = events_of(Agent(ScriptedModel([REPORT], chunk_size=1), output=Report))
    partials = [event.output for event in events if isinstance(event, PartialOutput)]
    assert all(type(part) is Report for part in partials)
    assert [part.city for part in partials][:4] == [None, "", "P", "Pa"]
    assert {part.coat for part in partials} == {None, True}
    assert partials[-1] == Report(city="Paris", coat=True)
    assert [type(event) for event in events[-3:]] == [StepFinished, PartialOutput, Final]


def test_a_rejected_answer_is_followed_by_new_partial_outputs() -> None:
    turns = ['{"city": "Rome", "coat": "perhaps"}', REPORT]
    events = events_of(Agent(ScriptedModel(turns, chunk_size=1), output=Report))
    steps: list[list[Report]] = []
    for event in events:
        if isinstance(event, StepStarted):
            steps.append([])
        elif isinstance(event, PartialOutput):
            steps[-1].append(event.output)
    assert steps[0][-1] == Report.model_construct({"city"}, city="Rome", coat=None)
    assert steps[1][0] == Report.model_construct(set(), city=None, coat=None)
    assert steps[1][-1] == Report(city="Paris", coat=True)


def test_thoughts_and_calls_are_no_partial_outputs() -> None:
    def look(city: str) -> str:
        """Look."""
        return city

    turns = [
        AssistantMessage("", '{"city": "Rome"}', (ToolCall("look", {"city": "Oslo"}),)),
        AssistantMessage(REPORT, '{"city": "Rome"}'),
    ]
    events = events_of(Agent(ScriptedModel(turns, chunk_size=1), tools=[look], output=Report, reasoning=True))
    cities = [event.output.city for event in events if isinstance(event, PartialOutput)]
    assert cities
    assert all(city is None or "Paris".startswith(city) for city in cities)


def test_only_those_who_ask_pay_for_partial_outputs() -> None:
    reads: list[str] = []

    def note(value: str) -> str:
        reads.append(value)
        return value

    output = list[Annotated[str, AfterValidator(note)]]
    text = '["a", "b", "c"]'
    Agent(ScriptedModel([text], chunk_size=1), output=output).run_sync("?")
    assert reads == ["a", "b", "c"]
    reads.clear()

    async def go() -> None:
        async with Agent(ScriptedModel([text], chunk_size=1), output=output).stream("?") as stream:
            assert "".join([piece async for piece in stream.text()]) == text
            assert stream.result.output == ["a", "b", "c"]

    anyio.run(go)
    assert reads == ["a", "b", "c"]
    assert any(isinstance(e, PartialOutput) for e in events_of(Agent(ScriptedModel([text]), output=output)))
    assert not any(isinstance(e, PartialOutput) for e in events_of(Agent(ScriptedModel(["[1]"]), output=str)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_show_their_part_and_leave_the_result(backend: str) -> None:
    async def go() -> None:
        async with Agent(ScriptedModel([REPORT], chunk_size=4), output=Report).stream("?") as stream:
            shown = [part async for part in stream.partials()]
        assert shown[-1] == stream.result.output == Report(city="Paris", coat=True)
        async with Agent(ScriptedModel(["It is\ncold."], chunk_size=2)).stream("?") as words:
            assert "".join([piece async for piece in words.text()]) == words.result.output

    anyio.run(go, backend=backend)


def test_a_view_goes_on_where_another_was_left() -> None:
    async def go() -> None:
        async with Agent(ScriptedModel([REPORT], chunk_size=1), output=Report).stream("?") as stream:
            head = ""
            async for piece in stream.text():
                head += piece
                if head.endswith("Par"):
                    break
            shown = [part async for part in stream.partials()]
            assert shown[0].city == "Pari"
            assert shown[-1] == stream.result.output

    anyio.run(go)


def test_a_view_with_nothing_left_to_show_is_refused() -> None:
    async def go() -> None:
        async with Agent(ScriptedModel([REPORT]), output=Report).stream("?") as stream:
            async for _ in stream.text():
                pass
            with pytest.raises(ConfigurationError, match=r"read to its end.*partials\(\)"):
                stream.partials()
            with pytest.raises(ConfigurationError, match=r"read to its end.*text\(\)"):
                stream.text()
            assert [event async for event in stream] == []
        async with Agent(ScriptedModel(["Hi."])).stream("?") as words:
            with pytest.raises(ConfigurationError, match=r"'str'.*no partial values"):
                words.partials()
            pieces = words.text()
        with pytest.raises(ConfigurationError, match="was left"):
            await anext(pieces)

    anyio.run(go)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_readers_at_once_are_refused(backend: str) -> None:
    async def go() -> None:
        model = Blocking()
        async with Agent(model).stream("?") as stream, anyio.create_task_group() as group:

            async def read() -> None:
                async for _ in stream:
                    pass

            group.start_soon(read)
            await model.blocked.wait()
            await settled()
            with pytest.raises(ConfigurationError, match="another task"):
                await anext(stream.text())
            group.cancel_scope.cancel()

    anyio.run(go, backend=backend)


def test_errors_come_out_of_views() -> None:
    async def go() -> None:
        turns = ["no", "no"]
        agent = Agent(ScriptedModel(turns), output=Report, limits=Limits(corrections=1))
        async with agent.stream("?") as stream:
            with pytest.raises(InvalidOutputError):
                async for _ in stream.partials():
                    pass

    anyio.run(go)


# Leaving


class Blocking(ScriptedModel):
    """Writes a part of an answer, then waits for ever; notes when it was stopped."""

    def __init__(self, text: str = '{"city": "Par') -> None:
        super().__init__([])
        self.text = text
        self.blocked = anyio.Event()
        self.log: list[str] = []

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk(self.text)
            self.blocked.set()
            await anyio.sleep_forever()
        finally:
            self.log.append("stopped")


Views = Callable[[RunStream[Report]], AsyncIterator[Any]]
VIEWS: list[Views] = [aiter, lambda stream: stream.text(), lambda stream: stream.partials()]


async def breaking(model: Blocking, view: Views) -> None:
    async with Agent(model, output=Report).stream("?") as stream:
        async for _ in view(stream):
            await model.blocked.wait()
            break


async def failing(model: Blocking, view: Views) -> None:
    async def read() -> None:
        async with Agent(model, output=Report).stream("?") as stream:
            async for _ in view(stream):
                await model.blocked.wait()
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await read()


async def cancelled(model: Blocking, view: Views) -> None:
    async with anyio.create_task_group() as group:

        async def read() -> None:
            async with Agent(model, output=Report).stream("?") as stream:
                async for _ in view(stream):
                    pass

        group.start_soon(read)
        await model.blocked.wait()
        await settled()  # the reader has read what there is, and waits
        group.cancel_scope.cancel()


async def unread(model: Blocking, view: Views) -> None:
    async with Agent(model, output=Report).stream("?") as stream:
        view(stream)
        await model.blocked.wait()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("view", VIEWS, ids=["events", "text", "partials"])
@pytest.mark.parametrize("leave", [breaking, failing, cancelled, unread])
def test_leaving_stops_the_model_before_the_block_is_over(
    leave: Callable[[Blocking, Views], Any], view: Views, backend: str
) -> None:
    async def go() -> None:
        model = Blocking()
        tasks = running_tasks()
        await leave(model, view)
        assert model.log == ["stopped"]
        assert running_tasks() == tasks

    threads = set(threading.enumerate())
    anyio.run(go, backend=backend)
    assert set(threading.enumerate()) <= threads, "those of other tests may end meanwhile, none may be new"
    gc.collect()  # a half-read generator would complain now


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
@pytest.mark.parametrize("where", ["block", "model"])
def test_the_end_of_the_program_comes_out_as_itself(where: str, ending: BaseException, backend: str) -> None:
    class Ending(Blocking):
        async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
            yield Chunk("Well")
            raise ending

    async def go() -> list[str]:
        model = Blocking() if where == "block" else Ending()

        async def read() -> None:
            async with Agent(model, output=Report).stream("?") as stream:
                async for _ in stream:
                    if where == "block":
                        await model.blocked.wait()
                        raise ending

        with pytest.raises(type(ending)) as raised:
            await read()
        assert raised.value is ending
        return model.log

    assert anyio.run(go, backend=backend) == (["stopped"] if where == "block" else [])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("view", VIEWS, ids=["events", "text", "partials"])
def test_leaving_stops_the_tools(view: Views, backend: str) -> None:
    stopped: list[str] = []
    running = anyio.Event()

    async def wait() -> None:
        try:
            running.set()
            await anyio.sleep_forever()
        finally:
            stopped.append("tool")

    async def go() -> None:
        turn = AssistantMessage("One moment.", tool_calls=(ToolCall("wait", {}),))
        agent = Agent(ScriptedModel([turn]), tools=[wait], output=Report, limits=Limits(tool_seconds=None))
        tasks = running_tasks()
        async with agent.stream("?") as stream:
            async with anyio.create_task_group() as group:

                async def read() -> None:
                    async for _ in view(stream):
                        pass

                group.start_soon(read)
                await running.wait()
                group.cancel_scope.cancel()
            assert stopped == []  # the reader has gone, the run has not
        assert stopped == ["tool"]
        assert running_tasks() == tasks

    anyio.run(go, backend=backend)


def running_tasks() -> set[str]:
    """The tasks of the running loop, by name and number."""
    return {f"{task.name} {task.id}" for task in anyio.get_running_tasks()}


def test_a_run_that_was_left_can_be_followed_by_another() -> None:
    async def go() -> None:
        agent = Agent(ScriptedModel(["One.", "Two."], chunk_size=1))
        async with agent.stream("?") as stream:
            async for _ in stream.text():
                break
        assert (await agent.run("?")).output == "Two."

    anyio.run(go)


# Types


async def view_types(agent: Agent[None, Report], several: Agent[None, list[Report]], words: Agent[None, str]) -> None:
    async with agent.stream("?") as stream:
        async for part in stream.partials():
            assert_type(part, Report)
        async for piece in stream.text():
            assert_type(piece, str)
        async for event in stream:
            assert_type(event, Event)
    async with several.stream("?") as lists:
        assert_type(lists.partials(), AsyncIterator[list[Report]])
    async with words.stream("?") as text:
        assert_type(text.text(), AsyncIterator[str])
    async with Agent(output=JsonSchema({})).stream("?") as anything:
        async for value in anything.partials():
            assert_type(value, Any)
