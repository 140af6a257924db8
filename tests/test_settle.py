"""What an agent is given is checked where it is given."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hermes_agent import Agent, ConfigurationError
from hermes_agent.hooks import Hooks

make_agent: Any = Agent  # what a type checker would not let through


def check(answer: str) -> str:
    return answer


@pytest.mark.parametrize("name", ["tools", "examples", "validators", "hooks"])
@pytest.mark.parametrize("value", [check, Hooks(), None, 3, "check"])
def test_one_thing_where_several_are_wanted_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r} is not a list")) as caught:
        make_agent(**{name: value})
    assert f"{name}=[...]" in caught.value.hint


@pytest.mark.parametrize("value", [{"steps": 3}, None, 3])
def test_limits_are_limits(value: object) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"limits={value!r} is not a Limits")) as caught:
        make_agent(limits=value)
    assert "Limits(...)" in caught.value.hint


def test_whatever_can_be_gone_through_is_a_list() -> None:
    assert Agent(validators=(function for function in [check]), hooks={Hooks()}).name == "agent"
