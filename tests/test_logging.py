"""What is logged: quiet by default, under one name, and nothing of what was said above DEBUG."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hermes_agent import Agent
from hermes_agent.models import Fallback
from hermes_agent.testing import ScriptedModel

SOURCES = sorted((Path(__file__).parent.parent / "hermes_agent").rglob("*.py"))
SECRET = "a secret about Paris"


def test_a_warning_is_not_printed_unless_the_program_asks() -> None:
    code = """
import hermes_agent, logging
logging.getLogger("hermes_agent.models").warning("look")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_every_logger_is_one_of_the_package() -> None:
    names = [name for path in SOURCES for name in re.findall(r"getLogger\((.*?)\)", path.read_text(encoding="utf-8"))]
    assert len(names) >= 4
    for name in names:
        if name in ('"mcp"', '"client"', '"ray"', '"ray.data"'):  # those of others, which are kept quiet
            continue
        assert name == "__name__" or re.fullmatch(r'"hermes_agent(\.[a-z]+)?"', name), name


def test_a_model_that_is_replaced_by_another_is_a_warning_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hermes_agent")

    class Broken(ScriptedModel):
        name = "vllm:m@http://me:word@host/v1"

    # A script without turns: the first model raises when it is asked.
    models = Fallback(Broken([]), ScriptedModel(["Hello."]))
    assert Agent(models).run_sync(SECRET).output == "Hello."
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.name == "hermes_agent.models"
    assert record.getMessage() == "vllm:m@http://***@host/v1 could not write: ModelError"
    assert SECRET not in caplog.text
