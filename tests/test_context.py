from __future__ import annotations

import dataclasses

import pytest

from hermes_agent.context import Retry, RunContext
from hermes_agent.limits import Usage


def test_a_context_is_frozen_and_has_defaults() -> None:
    context = RunContext("deps")
    assert (context.deps, context.usage, context.step, context.messages, context.call_id) == (
        "deps",
        Usage(),
        0,
        (),
        "",
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.step = 2  # type: ignore[misc]  # what is tested


def test_retry_keeps_its_message() -> None:
    assert (str(Retry("use metres")), Retry("use metres").message) == ("use metres", "use metres")
