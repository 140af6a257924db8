"""How values are spelled on the wire: one JSON style, one call style, everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hermes_agent.json_text import dump_json

__all__ = ["call_json", "dump_json", "serialise_call", "serialise_calls"]


def call_json(name: str, arguments: Mapping[str, Any]) -> str:
    """What stands between the tags of a call."""
    return f'{{"name": {dump_json(name)}, "arguments": {dump_json(arguments)}}}'


def serialise_call(name: str, arguments: Mapping[str, Any]) -> str:
    """One call with its tags."""
    return f"<tool_call>\n{call_json(name, arguments)}\n</tool_call>"


def serialise_calls(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Several calls of one turn, in order."""
    return "\n".join(serialise_call(name, arguments) for name, arguments in calls)
