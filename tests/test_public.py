"""The public surface, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hermes_agent
import hermes_agent.formats

MANIFEST = """
Agent ConfigurationError Conversation Example GuaranteeError HermesError InvalidOutputError InvalidTurnError JsonSchema
LimitExceededError Limits ModelError Reasoning Regex Retry RunContext RunError RunResult RunStream Sampling Tool
ToolFailedError Usage extract tool
""".split()  # noqa: SIM905  # twenty-four quoted names are harder to read

HEAVY = {
    "torch",
    "transformers",
    "outlines",
    "llguidance",
    "openai",
    "mcp",
    "jsonschema",
    "httpx",
    "rich",
    "typer",
    "jinja2",
}


def test_the_public_names_are_those_of_the_manifest() -> None:
    assert sorted(hermes_agent.__all__) == sorted(MANIFEST)
    assert len(MANIFEST) <= 25
    assert set(hermes_agent.formats.__all__) >= {"parse", "TurnParser", "TurnGrammar", "render", "dialect"}


def test_every_public_name_is_there_and_documented() -> None:
    for name in MANIFEST:
        doc = getattr(hermes_agent, name).__doc__
        assert doc, name
        assert len(doc.split()) > 3, name
    assert set(MANIFEST) <= set(dir(hermes_agent))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(hermes_agent, "runner")


def test_the_function_tool_is_never_shadowed_by_its_module() -> None:
    program = "import hermes_agent.agent; from hermes_agent import tool; assert callable(tool)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_agent_imports_nothing_heavy() -> None:
    program = "import sys; from hermes_agent import Agent; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & {name.partition(".")[0] for name in loaded.split()}


def test_building_an_agent_loads_no_model() -> None:
    program = """
import sys
from hermes_agent import Agent
def f(x: int) -> int:
    "Doc."
    return x
Agent(tools=[f], output=int)
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "transformers", "outlines", "openai", "mcp"} & {n.partition(".")[0] for n in loaded.split()}


def test_models_come_from_one_place() -> None:
    from hermes_agent import models

    for name in models.__all__:
        assert getattr(models, name) is not None
    with pytest.raises(AttributeError, match="nope"):
        _ = models.nope
