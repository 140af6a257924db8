"""Answering the calls of a turn: they are run, their results put behind it, and counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from anyio.lowlevel import cancel_shielded_checkpoint

from hermes_agent.budget import Reached
from hermes_agent.calls import Calls, Outcome, fault_feedback, refuse_behind_fault
from hermes_agent.errors import ConfigurationError, InvalidTurnError, RunPaused, ToolFailedError
from hermes_agent.events import ToolFinished, ToolStarted
from hermes_agent.messages import AssistantMessage, ToolCall, ToolMessage
from hermes_agent.models.base import FinishReason
from hermes_agent.pause import PausedRun
from hermes_agent.record import CallEnded, PartWritten, PendingCall, RunWaited
from hermes_agent.state import RunState
from hermes_agent.turn import CallPart, Fault, Turn

__all__ = ["Answers"]


class Answers:
    """Answers the calls that a run's turns make."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        self._calls = self._calls_of_plan()

    async def answer(self, turn: Turn, finish: FinishReason) -> None:
        """Run the calls of a turn, and answer each call and each fault in the order they stand."""
        state = self.state
        calls = self._with_ids(turn)
        broken = any(fault.kind != "unknown_tool" for fault in turn.faults)
        state.append(
            AssistantMessage(turn.text, turn.reasoning, calls, raw=turn.raw if broken else ""),
        )
        if (reached := state.budget.before_calls(state.usage, calls)) is not None:
            state.reach(reached, "Not run")
            state.close_calls(f"Not run: {reached.message}.")
            return
        # What follows a call that could not be read may be the inside of its strings: other people's text.
        sound = _calls_before_faults(turn)
        outcomes = await self._run_calls(calls[:sound])
        for outcome in map(refuse_behind_fault, calls[sound:]):
            outcomes.append(outcome)
            await self._tell_call(outcome)
        answers = iter(outcomes)
        for part in turn.parts:
            if isinstance(part, CallPart):
                state.append(_ended(next(answers)).message)
            elif isinstance(part, Fault) and part.kind != "unknown_tool":
                state.append(fault_feedback(part, cut_off=finish == "length"))
        self._raise_failures(outcomes)
        if broken or any(_ended(outcome).invalid for outcome in outcomes):
            state.correct(InvalidTurnError, turn, finish, "the model kept making calls that cannot be run")
        else:
            state.corrections = 0
        await self._hand_over(outcomes)

    def refuse(self, turn: Turn, reached: Reached) -> None:
        """Put a turn with calls into the conversation, none of which is run, because a limit is reached."""
        state = self.state
        state.append(AssistantMessage(turn.text, turn.reasoning, self._with_ids(turn), raw=turn.raw))
        state.close_calls(f"Not run: {reached.message}.")

    def _with_ids(self, turn: Turn) -> tuple[ToolCall, ...]:
        at = len(self.state.messages)
        return tuple(
            ToolCall(call.name, call.arguments, f"call_{at}_{i}", call.raw, call.repairs)
            for i, call in enumerate(turn.tool_calls)
        )

    async def answer_inline(self, found: Sequence[ToolCall | Fault], part: PartWritten) -> Sequence[ToolMessage]:
        """Run calls that stand inside the thinking; their results, in order."""
        state = self.state
        at = f"{len(state.messages)}_{state.inline_calls}"
        if state.inline_calls >= len(state.log.parts.get(state.step, ())):
            await state.log.write(replace(part, step=state.step, at=time.time()))
        state.inline_calls += 1
        calls = [replace(item, id=f"call_{at}_{i}") for i, item in enumerate(found) if isinstance(item, ToolCall)]
        if (reached := state.budget.before_calls(state.usage, calls)) is not None:
            state.reach(reached, "Not run")
            refused = [ToolMessage(f"Not run: {reached.message}.", call.name, call.id, is_error=True) for call in calls]
            answers = iter(refused)
            return [next(answers) if isinstance(item, ToolCall) else fault_feedback(item) for item in found]
        outcomes = await self._run_calls(calls)
        self._raise_failures(outcomes)
        wrong = len(calls) < len(found) or any(_ended(outcome).invalid for outcome in outcomes)
        state.corrections = state.corrections + 1 if wrong else 0
        if state.corrections > state.plan.limits.corrections:
            raise state.error(
                InvalidTurnError,
                "the model kept making calls that cannot be run inside its thinking "
                f"(corrections={state.plan.limits.corrections!r} were used up)",
                "look at .raw; a larger model or worked examples= help, or Reasoning(calls='ignore')",
            )
        results = iter(outcomes)
        return [_ended(next(results)).message if isinstance(item, ToolCall) else fault_feedback(item) for item in found]

    async def _run_calls(self, calls: Sequence[ToolCall]) -> list[Outcome]:
        """What became of each call.

        Raises:
            RunPaused: Some of them wait for somebody's word.
        """
        if not calls:
            return []
        outcomes = await self._calls.run(calls)
        by_tool: dict[str, bool] = {}
        for outcome in outcomes:
            if outcome.ended is not None:
                self.state.note(outcome.call.name, outcome.ended)
                by_tool[outcome.call.name] = by_tool.get(outcome.call.name, True) and outcome.ended.invalid
        for name, wrong in by_tool.items():
            self.state.gone_wrong[name] = self.state.gone_wrong[name] + 1 if wrong else 0
        if pending := [item for outcome in outcomes for item in outcome.pending]:
            await self._pause(pending)
        return outcomes

    async def _pause(self, pending: Sequence[PendingCall]) -> None:
        state = self.state
        await state.log.write(RunWaited(tuple(pending), time.time()))
        names = ", ".join(f"{item.call.name!r} ({item.reason})" for item in pending)
        raise RunPaused(
            f"the run waits for somebody's word on {names}",
            run=PausedRun(state.log.run_id, {name: tuple(records) for name, records in state.log.runs.items()}),
            hint="settle .run.pending with .run.approve(…), deny(…) or supply(…), and go on with agent.resume(…)",
            messages=state.messages,
        )

    async def _hand_over(self, outcomes: Sequence[Outcome]) -> None:
        """Let another agent go on, if a call says so.

        Raises:
            GuaranteeError: The run is to be enforced, and that agent's turns cannot be.
            ConfigurationError: There is no such agent any more.
        """
        state = self.state
        name = next((o.ended.hand_off for o in outcomes if o.ended is not None and o.ended.hand_off), "")
        if not name or (state.went_on and state.log.agents.get(state.step + 1) == state.plan.name):
            return  # or time was up before it came to that
        if (party := state.plan.hand_offs.get(name)) is None:
            known = ", ".join(map(repr, state.plan.hand_offs)) or "nobody"
            raise ConfigurationError(
                f"agent {state.plan.name!r} cannot hand over to {name!r}, as the run has it",
                hint=f"resume it with the agent that began it; this one hands over to {known}",
            )
        state.go_over(*party())
        self._calls = self._calls_of_plan()
        if state.log.answer is None:  # else all of it is in the records
            state.weaken(await state.promised())

    def _raise_failures(self, outcomes: Sequence[Outcome]) -> None:
        state = self.state
        if state.went_on:
            return
        for outcome in outcomes:
            tool, ended = state.plan.tools.get(outcome.call.name), _ended(outcome)
            if state.plan.on_tool_error == "raise" and ended.error:
                raise ToolFailedError(
                    f"tool {outcome.call.name!r} raised {outcome.error!r}"
                    if outcome.error is not None
                    else f"tool {outcome.call.name!r} raised {ended.error}",
                    hint='mend the tool, or use on_tool_error="feedback" to tell the model instead',
                    messages=state.messages,
                ) from outcome.error
            wrong = state.gone_wrong[outcome.call.name]
            if tool is not None and tool.retries is not None and wrong > tool.retries:
                raise state.error(
                    InvalidTurnError,
                    f"calls of {tool.name!r} went wrong in {wrong} turns in a row, with retries={tool.retries!r}; "
                    f"last: {ended.message.content}",
                    "look at .messages; raise tool(retries=…), or mend its description",
                )

    def _calls_of_plan(self) -> Calls:
        state, plan = self.state, self.state.plan
        return Calls(
            plan.tools,
            plan.limits,
            state.log,
            state.context,
            hooks=plan.hooks,
            sequential=plan.sequential,
            told=self._tell_call,
        )

    async def _tell_call(self, news: ToolCall | Outcome) -> None:
        state = self.state
        if state.emit is None:
            return
        if isinstance(news, Outcome):
            ended = _ended(news)
            await state.emit(ToolFinished(news.call, ended.message, ended.seconds))
        else:
            await state.emit(ToolStarted(news))
            await cancel_shielded_checkpoint()  # whoever watches sees it before the tool does anything


def _ended(outcome: Outcome) -> CallEnded:
    """The result of a call that does not wait."""
    assert outcome.ended is not None
    return outcome.ended


def _calls_before_faults(turn: Turn) -> int:
    """How many calls stand before the first thing that could not be read."""
    count = 0
    for part in turn.parts:
        if isinstance(part, CallPart):
            count += 1
        elif isinstance(part, Fault) and part.kind != "unknown_tool":
            break
    return count
