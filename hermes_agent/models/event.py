"""One event of a stream: read, and looked over before anything relies on its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from hermes_agent.errors import ModelError
from hermes_agent.models.refusals import Failure, Where, refusal

__all__ = ["Event", "finishes", "read_event", "speaks"]

Event = Mapping[str, Any]
"""One object of a stream, as the server sent it, in the shape of the API."""

_TEXTS = (
    "text", "content", "refusal", "reasoning", "reasoning_content", "thinking", "reasoning_details", "tool_calls",
    "function_call",
)  # fmt: skip


def read_event(data: str, where: Where) -> Event:
    """The object in the data of an event.

    Raises:
        Failure: It is an error, or nothing of the API.
    """
    try:
        event: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Failure(
            ModelError(f"{where} sent an event that is not JSON: {data[:200]!r}", hint="look at the server", raw=data),
            retry=True,
        ) from error
    if not isinstance(event, dict):
        raise _odd(where, data)
    found = cast("dict[str, Any]", event)
    if (problem := found.get("error")) and not found.get("choices"):
        code: Any = cast("dict[str, Any]", problem).get("code") if isinstance(problem, dict) else None
        raise refusal(where, code if isinstance(code, int) and 400 <= code < 600 else 500, data)
    if not _has_shape(found):
        raise _odd(where, data)
    return found


def speaks(event: Event) -> bool:
    """Whether there is text in an event, of whatever sort."""
    for choice in event.get("choices") or ():
        delta: Any = choice.get("delta") or choice.get("message") or choice
        if any(delta.get(key) for key in _TEXTS):
            return True
    return False


def finishes(event: Event) -> bool:
    """Whether it tells the end of the turn."""
    return any(choice.get("finish_reason") for choice in event.get("choices") or ())


def _has_shape(event: Mapping[str, Any]) -> bool:
    """Whether everything that is looked into later is what it has to be; what is missing or null always is."""
    return _holds(event, choices=list, model=str) and all(
        _is(choice, dict) and _choice_has_shape(choice) for choice in event.get("choices") or ()
    )


def _choice_has_shape(choice: Mapping[str, Any]) -> bool:
    delta: Any = choice.get("delta") or choice.get("message") or choice
    return (
        _holds(choice, index=int, finish_reason=str)
        and _is(delta, dict)
        and _holds(delta, tool_calls=list, function_call=dict)
        and all(_is(call, dict) and _call_has_shape(call) for call in delta.get("tool_calls") or ())
    )


def _call_has_shape(call: Mapping[str, Any]) -> bool:
    return _holds(call, id=str, function=dict) and (_holds(call, index=int) or _holds(call, index=str))


def _holds(found: Mapping[str, Any], **kinds: type) -> bool:
    for key, kind in kinds.items():
        value = found.get(key)
        if value is not None and not isinstance(value, kind):
            return False
    return True


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind)


def _odd(where: Where, data: str) -> Failure:
    hint = "look at the server, and at what stands between: this is not the API's shape"
    return Failure(ModelError(f"{where} sent {data[:200]!r} for an event", hint=hint, raw=data))
