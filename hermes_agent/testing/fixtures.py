"""A pytest plugin: no test reaches a real model unless it is marked, and fixtures give it models made for tests.

Use it with ``pytest_plugins = ["hermes_agent.testing.fixtures"]`` in the topmost ``conftest.py``. It is not loaded by
itself, so who only has the SDK installed pays nothing and sees nothing of it.

- While a test is set up, runs and is torn down, `hermes_agent.testing.forbid_model_requests` is in force. The marker
  ``@pytest.mark.model_requests`` lets one test ask real models, and ``hermes_model_requests = allow`` in the
  configuration of pytest all of them.
- ``scripted_model("turn", "turn", …)`` makes a `ScriptedModel`; when the test has passed, each of its turns must have
  been asked for.
- ``filling_model`` is a `FillingModel`.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from hermes_agent.formats.dialects import Dialect
from hermes_agent.models.base import FinishReason, Guarantee
from hermes_agent.models.permission import forbid_model_requests
from hermes_agent.testing.filling import FillingModel
from hermes_agent.testing.scripted import ScriptedModel, ScriptedTurn

__all__ = ["ScriptedModels", "filling_model", "scripted_model"]

_SETTING = "hermes_model_requests"
_MARKER = "model_requests"
_passed = pytest.StashKey[bool]()


class ScriptedModels:
    """Makes scripted models, and remembers them. What the fixture ``scripted_model`` is."""

    def __init__(self) -> None:
        self.made: list[ScriptedModel] = []

    def __call__(
        self,
        *turns: ScriptedTurn,
        dialect: str | Dialect = "chatml",
        chunk_size: int | None = None,
        finish_reason: FinishReason = "stop",
        guarantee: Guarantee = "checked",
    ) -> ScriptedModel:
        """A model that writes these turns; see `ScriptedModel`."""
        model = ScriptedModel(
            turns, dialect=dialect, chunk_size=chunk_size, finish_reason=finish_reason, guarantee=guarantee
        )
        self.made.append(model)
        return model


@pytest.fixture
def scripted_model(request: pytest.FixtureRequest) -> Generator[ScriptedModels]:
    """Makes scripted models whose turns must all have been asked for when the test has passed."""
    models = ScriptedModels()
    yield models
    if request.node.stash.get(_passed, False):  # else what is left is not what is wrong
        for model in models.made:
            model.assert_complete()


@pytest.fixture
def filling_model() -> FillingModel:
    """A model that calls each tool once and fills the answer, with the plainest values."""
    return FillingModel()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``hermes_model_requests``."""
    parser.addini(_SETTING, 'whether tests may ask real models: "forbid" or "allow"', default="forbid")


def pytest_configure(config: pytest.Config) -> None:
    """Adds the marker ``model_requests``."""
    config.addinivalue_line("markers", f"{_MARKER}: real models may be asked in this test")
    if (setting := config.getini(_SETTING)) not in ("forbid", "allow"):
        raise pytest.UsageError(f'{_SETTING} = {setting!r} is neither "forbid" nor "allow"')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Forbids model requests around each test, fixtures of any scope included."""
    if item.config.getini(_SETTING) == "allow" or item.get_closest_marker(_MARKER) is not None:
        return (yield)
    with forbid_model_requests():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes whether the test itself has passed."""
    report = yield
    if call.when == "call":
        item.stash[_passed] = report.passed
    return report
