"""Trustworthy tools and structured output for open-weight models that speak the Hermes format."""

from __future__ import annotations

from logging import NullHandler, getLogger
from typing import TYPE_CHECKING, Any

# The eager imports: `tool` and `extract` are functions here and modules of ours. Loading a module later would put
# the module in the function's place.
from hermes_agent.extract import extract
from hermes_agent.tool import Tool, tool

if TYPE_CHECKING:
    from hermes_agent.agent import Agent
    from hermes_agent.context import Retry, RunContext
    from hermes_agent.errors import (
        ConfigurationError,
        GuaranteeError,
        HermesError,
        InvalidOutputError,
        InvalidTurnError,
        LimitExceededError,
        ModelError,
        RunError,
        ToolFailedError,
    )
    from hermes_agent.limits import Limits, Usage
    from hermes_agent.messages import Conversation, Example
    from hermes_agent.output import JsonSchema, Regex
    from hermes_agent.reasoning import Reasoning
    from hermes_agent.run import RunResult
    from hermes_agent.sampling import Sampling
    from hermes_agent.stream import RunStream

# Quiet until the program says where logs go.
getLogger(__name__).addHandler(NullHandler())

# Name → module, imported on first use.
_HOMES = {
    "Agent": "agent",
    "ConfigurationError": "errors",
    "Conversation": "messages",
    "Example": "messages",
    "GuaranteeError": "errors",
    "HermesError": "errors",
    "InvalidOutputError": "errors",
    "InvalidTurnError": "errors",
    "JsonSchema": "output",
    "LimitExceededError": "errors",
    "Limits": "limits",
    "ModelError": "errors",
    "Reasoning": "reasoning",
    "Regex": "output",
    "Retry": "context",
    "RunContext": "context",
    "RunError": "errors",
    "RunResult": "run",
    "RunStream": "stream",
    "Sampling": "sampling",
    "ToolFailedError": "errors",
    "Usage": "limits",
}

__all__ = [
    "Agent",
    "ConfigurationError",
    "Conversation",
    "Example",
    "GuaranteeError",
    "HermesError",
    "InvalidOutputError",
    "InvalidTurnError",
    "JsonSchema",
    "LimitExceededError",
    "Limits",
    "ModelError",
    "Reasoning",
    "Regex",
    "Retry",
    "RunContext",
    "RunError",
    "RunResult",
    "RunStream",
    "Sampling",
    "Tool",
    "ToolFailedError",
    "Usage",
    "extract",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
