"""A trace as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hermes_agent.messages import dump_messages

if TYPE_CHECKING:
    from hermes_agent.trace.run import Trace
    from hermes_agent.trace.values import TracedCall, TracedShortening, TracedStep
    from hermes_agent.turn import Fault

__all__ = ["run_values"]


def run_values(trace: Trace) -> dict[str, Any]:
    """The run, its steps, their calls and the runs inside of them; times are seconds since 1970."""
    return {
        "run_id": trace.run_id,
        "agent": trace.agent,
        "model": trace.model,
        "outcome": trace.outcome,
        "promised": trace.promised,
        "guarantee": trace.guarantee,
        "began": trace.began,
        "seconds": trace.seconds,
        "usage": asdict(trace.usage),
        "prompt": trace.prompt,
        "history": dump_messages(trace.history),
        "answer": trace.answer,
        "error": trace.error,
        "steps": [_step(step) for step in trace.steps],
        "shortenings": [_shortening(shortening) for shortening in trace.shortenings],
    }


def _step(step: TracedStep) -> dict[str, Any]:
    turn = step.turn
    return {
        "number": step.number,
        "agent": step.agent,
        "model": step.model,
        "began": step.began,
        "ended": step.ended,
        "model_seconds": step.model_seconds,
        "finish": step.finish,
        "usage": asdict(step.usage),
        "guarantee": step.guarantee,
        "grammar": step.grammar if step.grammar_is_new else None,
        "thinking": step.thinking,
        "text": None if turn is None else turn.text,
        "faults": [] if turn is None else [_fault(fault) for fault in turn.faults],
        "raw": step.raw,
        "calls": [_call(call) for call in step.calls],
        "rejected": step.rejected,
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {"fault": fault.kind, "detail": fault.detail, "name": fault.name, "raw": fault.raw}


def _call(call: TracedCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "name": call.name,
        "arguments": None if call.arguments is None else dict(call.arguments),
        "state": call.state,
        "began": call.began,
        "ended": call.ended,
        "seconds": call.seconds,
        "result": call.result,
        "error": call.error,
        "waits_for": call.waits_for,
        "decision": call.decision,
        "hand_off": call.hand_off,
        "usage": asdict(call.usage),
        "repairs": list(call.repairs),
        "inline": call.inline,
        "times_begun": call.times_begun,
        "run": None if call.run is None else run_values(call.run),
    }


def _shortening(shortening: TracedShortening) -> dict[str, Any]:
    return {
        "before_step": shortening.before_step,
        "at": shortening.at,
        "usage": asdict(shortening.usage),
        "shown": dump_messages(shortening.shown),
    }
