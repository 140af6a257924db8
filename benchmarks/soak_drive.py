"""Doing one run of the soak, and looking at what it came to."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import sniffio

from benchmarks.soak_agents import SoakModel
from benchmarks.soak_scripts import LOOP, Script
from hermes_agent import Agent, RunResult
from hermes_agent.errors import HermesError, RunError, RunPaused
from hermes_agent.events import Event, Final, TextDelta, ToolFinished, ToolProgress, ToolStarted
from hermes_agent.journal import Journal
from hermes_agent.messages import AssistantMessage, Message, ToolMessage
from hermes_agent.pause import PausedRun
from hermes_agent.record import CallEnded, Record, RunEnded
from hermes_agent.testing import ScriptedModel
from hermes_agent.threads import in_thread

__all__ = ["Driver"]

_PATIENCE = 120.0
_NUMBER = re.compile(r"\brun (-?\d+)")


class _LeftError(Exception):
    """Raised inside of a stream, to leave it."""


class Driver:
    """Does runs, one after the other or many at once.

    Args:
        model: Writes in all of them.
        agents: By name, without a journal and with it.
        journal: Theirs.
    """

    def __init__(
        self, model: SoakModel, agents: Mapping[bool, Mapping[str, Agent[Script, Any]]], journal: Journal
    ) -> None:
        self.model, self.agents, self.journal = model, agents, journal

    async def drive(self, script: Script) -> str:
        """Do a run; what came of it. What was wrong is in ``script.wrong``."""
        self.model.scripts[script.number] = script
        script.token = anyio.lowlevel.current_token()
        ended = "lost"
        try:
            with anyio.fail_after(_PATIENCE):
                ended = await self._ended(script)
                if script.journalled:
                    await self._delete(script)
        except TimeoutError:
            script.wrong.append(f"did not come to its end within {_PATIENCE:g} seconds")
        finally:
            script.token = None
            del self.model.scripts[script.number]
        if script.ends == "either" and ended in ("answered", "cancelled"):
            return "either"
        if ended != script.ends:
            script.wrong.append(f"ended as {ended!r}, not as {script.ends!r}")
        return ended

    async def _ended(self, script: Script) -> str:
        agent = self.agents[script.journalled][script.agent]
        ways: dict[str, Callable[[Script, Agent[Script, Any]], Awaitable[str]]] = {
            "run": self._run,
            "stream": self._stream,
            "leave": self._leave,
            "cancel": self._cancel,
            "anywhere": self._anywhere,
            "pause": self._pause,
            "resume": self._resume,
            "override": self._override,
        }
        try:
            return await ways[script.drive](script, agent)
        except (HermesError, RuntimeError) as error:
            await self._check_error(script, error)
            return type(error).__name__

    # Ways to do a run

    async def _run(self, script: Script, agent: Agent[Script, Any]) -> str:
        return await self._check(script, await agent.run(script.prompt, deps=script, run_id=script.run_id))

    async def _override(self, script: Script, agent: Agent[Script, Any]) -> str:
        with agent.override(model=ScriptedModel(script.turns, chunk_size=5)):  # type: ignore[arg-type]  # only texts here
            return await self._run(script, agent)

    async def _stream(self, script: Script, agent: Agent[Script, Any]) -> str:
        seen: Counter[type[Event]] = Counter()
        texts: list[str] = []
        async with agent.stream(script.prompt, deps=script, run_id=script.run_id) as events:
            async for event in events:
                seen[type(event)] += 1
                if isinstance(event, TextDelta):
                    texts.append(event.text)
        if seen[Final] != 1:
            script.wrong.append(f"told of its end {seen[Final]} times")
        if seen[ToolProgress] != script.progress:
            script.wrong.append(f"told {seen[ToolProgress]} times of progress")
        if seen[ToolStarted] > seen[ToolFinished]:
            script.wrong.append(f"told of {seen[ToolStarted]} calls that began, {seen[ToolFinished]} that ended")
        self._check_texts(script, ["".join(texts)])
        return await self._check(script, events.result)

    async def _leave(self, script: Script, agent: Agent[Script, Any]) -> str:
        where: Any = script.one_of(None, TextDelta, ToolStarted, "stays")
        raising = script.one_of(True, False)
        try:
            async with agent.stream(script.prompt, deps=script, run_id=script.run_id) as events:
                async for event in events:
                    if where in (None, type(event)) or (where == "stays" and script.reached.is_set()):
                        break
                    if isinstance(event, ToolStarted) and event.call.name.startswith("stay"):
                        await script.reached.wait()
                        break
                if raising:
                    raise _LeftError(script.says("is left"))
        except _LeftError:
            return "left"
        return "answered" if raising else "left"

    async def _cancel(self, script: Script, agent: Agent[Script, Any]) -> str:
        if script.one_of(True, False) and sniffio.current_async_library() == "asyncio":
            task = asyncio.ensure_future(agent.run(script.prompt, deps=script, run_id=script.run_id))
            await script.reached.wait()
            task.cancel()
            done, _ = await asyncio.wait([task])
            return "cancelled" if done.pop().cancelled() else "answered"
        return await self._scoped(script, agent, script.reached.wait)

    async def _scoped(self, script: Script, agent: Agent[Script, Any], until: Callable[[], Awaitable[object]]) -> str:
        ended: list[str] = []

        async def go() -> None:
            ended.append(await self._run(script, agent))

        async with anyio.create_task_group() as group:
            group.start_soon(go)
            await until()
            group.cancel_scope.cancel()
        return ended[0] if ended else "cancelled"

    async def _anywhere(self, script: Script, agent: Agent[Script, Any]) -> str:
        results, script.results = script.results, None
        moment = script.random.expovariate(1 / 0.02)
        ended = await self._scoped(script, agent, partial(anyio.sleep, moment))
        if ended == "answered" or not script.journalled:
            return ended
        script.results = results
        if not await in_thread(partial(self.journal.count, script.run_id)):  # it was cancelled before it began
            return await self._run(script, agent)
        return await self._go_on(script, agent, script.run_id)

    async def _resume(self, script: Script, agent: Agent[Script, Any]) -> str:
        results, script.results = script.results, None
        if (ended := await self._cancel(script, agent)) != "cancelled":
            return f"{ended} before it was cancelled"
        script.results = results
        return await self._go_on(script, agent, script.run_id)

    async def _go_on(self, script: Script, agent: Agent[Script, Any], run: PausedRun | str) -> str:
        """Go on until no call waits: what was cut off is run again, or supplied where it would stay for ever."""
        while True:
            try:
                return await self._check(script, await agent.resume(run, deps=script))
            except RunPaused as paused:
                settled = paused.run
                for pending in paused.run.pending:
                    if pending.reason != "interrupted":
                        script.wrong.append(f"waits for {pending}")
                    stays = pending.call.name.startswith("stay")
                    settled = (
                        settled.supply(pending, script.says("was supplied")) if stays else settled.approve(pending)
                    )
                run = settled

    async def _pause(self, script: Script, agent: Agent[Script, Any]) -> str:
        pauses = 0
        run: PausedRun | None = None
        while True:
            try:
                if run is None:
                    result = await agent.run(script.prompt, deps=script, run_id=script.run_id)
                else:
                    result = await agent.resume(run, deps=script)
            except RunPaused as paused:
                pauses += 1
                run = await self._settled(script, paused)
            else:
                if pauses != script.pauses:
                    script.wrong.append(f"paused {pauses} times")
                return await self._check(script, result)

    async def _settled(self, script: Script, paused: RunPaused) -> PausedRun:
        run = PausedRun.from_json(paused.run.to_json())
        if script.journalled and script.one_of(True, False):
            kept = await in_thread(partial(PausedRun.load, self.journal, script.run_id))
            if kept != run:
                script.wrong.append("is another run in the journal than in the pause")
            run = kept
        for pending in run.pending:
            word = pending.call.arguments.get("word", "supplied")
            if word == "approved":
                run = run.approve(pending)
            elif word == "denied":
                run = run.deny(pending, script.says("denied"))
            else:
                run = run.supply(pending, script.says("supplied"))
        return PausedRun.from_json(run.to_json())

    # Looking at what came of it

    async def _check(self, script: Script, result: RunResult[Any]) -> str:
        if result.output != (int(script.answer) if script.agent == "typed" else script.answer):
            script.wrong.append(f"answered {result.output!r}")
        if (result.limit is not None) != script.limited:
            script.wrong.append(f"came to the limit {result.limit!r}")
        if result.run_id != script.run_id:
            script.wrong.append(f"is called {result.run_id!r}")
        self._check_messages(script, result.messages)
        self._check_records(script, result.records, ended=True)
        ran = [r for records in result.records.values() for r in records if isinstance(r, CallEnded) and r.ran]
        if script.drive in ("resume", "anywhere") or script.agent == "answer_seconds":
            pass  # calls were cut off, and perhaps run again
        elif script.agent not in ("outer", "front") and len(ran) != sum(script.ran.values()):
            script.wrong.append(f"recorded {len(ran)} calls that were run, and ran {dict(script.ran)}")
        elif any(count > 1 for count in script.ran.values()):
            script.wrong.append(f"ran {script.ran}")
        if result.usage.tool_calls != len(ran):
            script.wrong.append(f"counts {result.usage.tool_calls} calls, and recorded {len(ran)}")
        await self._check_journal(script, result.records)
        if script.journalled:
            again = await self.agents[True][script.agent].resume(script.run_id, deps=script)
            if (again.output, again.limit) != (result.output, result.limit) or again.messages != result.messages:
                script.wrong.append(f"is another once more: {again.output!r}, {again.limit!r}, {list(again.messages)}")
        return "answered"

    async def _check_error(self, script: Script, error: Exception) -> None:
        self._check_texts(script, [str(error)])
        if isinstance(error, HermesError):
            self._check_messages(script, error.messages)
        if isinstance(error, RunError):
            self._check_records(script, error.records, ended=True)
            await self._check_journal(script, error.records)

    def _check_messages(self, script: Script, messages: Sequence[Message]) -> None:
        """One result for each call, in order; nothing of another run; the results that had to come."""
        waiting: list[str] = []
        results: list[str] = []
        known: set[str] = set()
        for message in messages:
            if isinstance(message, ToolMessage) and message.call_id:
                if not waiting or waiting.pop(0) != message.call_id:
                    script.wrong.append(f"has a result of {message.call_id} out of turn")
                results.append(message.content)
            elif isinstance(message, AssistantMessage):
                if waiting:
                    script.wrong.append(f"has no result of {waiting}")
                waiting = [call.id for call in message.tool_calls]
                if known.intersection(waiting):
                    script.wrong.append(f"has calls of the same id in {waiting}")
                known.update(waiting)
        if waiting:
            script.wrong.append(f"has no result of {waiting}")
        wanted = script.results
        if wanted is not None and (
            len(results) != len(wanted) or any(w not in (LOOP, r) for r, w in zip(results, wanted, strict=True))
        ):
            script.wrong.append(f"has the results {[r[-80:] for r in results]}, not {[w[-80:] for w in wanted]}")
        self._check_texts(script, [repr(message) for message in messages])

    def _check_texts(self, script: Script, texts: Sequence[str]) -> None:
        for text in texts:
            if others := {int(number) for number in _NUMBER.findall(text)} - {script.number}:
                script.wrong.append(f"holds texts of runs {others}")

    def _check_records(self, script: Script, runs: Mapping[str, Sequence[Record]], *, ended: bool) -> None:
        for name, records in runs.items():
            if name.partition("/")[0] != script.run_id:
                script.wrong.append(f"has records of {name!r}")
            calls = Counter(record.call_id for record in records if isinstance(record, CallEnded))
            if any(count != 1 for count in calls.values()):
                script.wrong.append(f"has several ends of a call: {calls}")
        if ended and [isinstance(record, RunEnded) for record in runs[script.run_id]].count(True) != 1:
            script.wrong.append(f"has not one end: {[record.kind for record in runs[script.run_id]]}")

    async def _check_journal(self, script: Script, runs: Mapping[str, Sequence[Record]]) -> None:
        """The journal holds what the run holds."""
        if not script.journalled:
            return

        def differences() -> list[str]:
            return [name for name, records in runs.items() if list(records) != self.journal.records(name)]

        if different := await in_thread(differences):
            script.wrong.append(f"is another run in the journal: {different}")

    async def _delete(self, script: Script) -> None:
        def delete() -> int:
            if self.journal.count(script.run_id):
                self.journal.delete(script.run_id)
            return self.journal.count(script.run_id)

        if await in_thread(delete):
            script.wrong.append("cannot be deleted from the journal")
