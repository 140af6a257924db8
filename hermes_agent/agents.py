"""Agents in the hands of other agents: asked as a tool, or handed the conversation."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hermes_agent.context import RunContext
from hermes_agent.log import RunLog
from hermes_agent.models.base import Model
from hermes_agent.plan import Plan
from hermes_agent.run import Run
from hermes_agent.tool import Tool

__all__ = ["asking", "new_run_id", "transfer"]

_PROMPT = {"type": "string", "description": "What to ask; it knows nothing else."}


def new_run_id() -> str:
    """An id that no other run has."""
    return uuid.uuid4().hex


def asking(party: Callable[[], tuple[Plan, Model]], *, name: str, description: str) -> Tool:
    """A tool that asks an agent, in a run of its own inside of the run around it.

    Args:
        party: What that run needs, when it is needed.
        name: The tool's name; what a tool may not be called becomes ``_``.
        description: What the model is told of it.
    """

    async def ask(context: RunContext[Any], prompt: str) -> object:
        inside = context.inside
        log = RunLog(new_run_id(), {}) if inside is None else inside.log.inside(context.call_id)
        run = Run(*party(), prompt, history=(), deps=context.deps, log=log)
        try:
            return (await run.go()).output
        finally:
            if inside is not None:
                inside.usage += run.state.usage

    return Tool.from_schema(
        name=_tool_name(name),
        description=description,
        parameters={"properties": {"prompt": _PROMPT}, "required": ["prompt"], "additionalProperties": False},
        call=ask,
        timeout=math.inf,
        idempotent=True,  # it goes on from its own records
    )


def transfer(name: str, description: str) -> Tool:
    """The tool that hands the conversation over to an agent of this name."""
    tool = Tool.from_schema(
        name=f"transfer_to_{_tool_name(name)}",
        description=f"Hand the conversation over to {name}. {description}".strip(),
        parameters={"properties": {}, "additionalProperties": False},
        call=partial(_handed_over, name),
        idempotent=True,  # it does nothing to the world
    )
    return replace(tool, hand_off=name)


def _tool_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)


async def _handed_over(name: str) -> str:
    return f"The conversation was handed over to {name}."
