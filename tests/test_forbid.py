from __future__ import annotations

import threading
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import anyio
import pytest

from hermes_agent import Agent
from hermes_agent.errors import ConfigurationError
from hermes_agent.formats import TurnGrammar
from hermes_agent.messages import UserMessage
from hermes_agent.models import EmbeddedModel, Endpoint, Fallback, LocalModel
from hermes_agent.models.base import Model, Request
from hermes_agent.models.permission import check_requests_allowed, is_for_tests
from hermes_agent.testing import (
    FillingModel,
    Recorder,
    Replay,
    RequestsForbiddenError,
    ScriptedModel,
    forbid_model_requests,
)
from tests.scripted_server import ScriptedServer

GRAMMAR = TurnGrammar((), bool)


@dataclass
class Named:
    name: str
    for_tests: bool = False


class Untouchable:
    """Weights and a tokenizer that nobody may load."""

    writes_as_it_reads = True

    def tokenizer(self) -> NoReturn:
        raise AssertionError("the tokenizer was loaded")

    def model(self) -> NoReturn:
        raise AssertionError("the weights were loaded")


async def written(model: Model) -> str:
    async with aclosing(model.generate(Request([UserMessage("Hi")]))) as chunks:
        return "".join([chunk.text async for chunk in chunks])


def is_forbidden() -> bool:
    try:
        check_requests_allowed(Named("real"))
    except RequestsForbiddenError:
        return True
    return False


def test_it_is_an_error_of_the_configuration_with_a_way_out() -> None:
    with forbid_model_requests(), pytest.raises(ConfigurationError) as caught:
        Agent("embedded").run_sync("Hi")
    assert "'embedded' may not be asked" in caught.value.message
    for way_out in ("ScriptedModel", "FillingModel", "agent.override"):
        assert way_out in caught.value.hint


def test_it_nests_and_ends_when_the_last_one_does() -> None:
    assert not is_forbidden()
    with forbid_model_requests():
        with forbid_model_requests():
            assert is_forbidden()
        assert is_forbidden()
    assert not is_forbidden()


def test_called_plainly_it_holds_until_its_end() -> None:
    held = forbid_model_requests()
    assert is_forbidden()
    with forbid_model_requests() as inner:
        inner.end()
        inner.end()
        assert is_forbidden()
    assert is_forbidden()
    held.end()
    held.end()
    assert not is_forbidden()


def test_it_ends_with_an_error_too() -> None:
    with pytest.raises(KeyError), forbid_model_requests():
        raise KeyError
    assert not is_forbidden()


def test_it_holds_in_threads_and_in_event_loops_that_run_already() -> None:
    found: list[bool] = []
    asked, told = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await anyio.to_thread.run_sync(asked.wait)
        found.append(is_forbidden())
        found.append(await anyio.to_thread.run_sync(is_forbidden))
        told.set()

    thread = threading.Thread(target=lambda: anyio.run(elsewhere))
    thread.start()
    with forbid_model_requests():
        asked.set()
        assert told.wait(10)
    thread.join(10)
    assert found == [True, True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_holds_in_tasks_that_run_already(backend: str) -> None:
    async def go() -> None:
        entered, asked, answered = anyio.Event(), anyio.Event(), anyio.Event()

        async def task() -> None:
            entered.set()
            await asked.wait()
            assert is_forbidden()
            answered.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(task)
            await entered.wait()
            with forbid_model_requests():
                asked.set()
                await answered.wait()

    anyio.run(go, backend=backend)


def test_no_weights_and_no_tokenizer_are_loaded() -> None:
    model = LocalModel("some/model", source=Untouchable())
    with forbid_model_requests():
        for ask in (model.load, lambda: model.dialect, lambda: anyio.run(written, model)):
            with pytest.raises(RequestsForbiddenError, match="'some/model'"):
                ask()
    with pytest.raises(AssertionError, match="the tokenizer was loaded"):
        model.load()


def test_a_model_that_is_loaded_writes_no_more() -> None:
    model = LocalModel.from_objects(
        SimpleNamespace(config=SimpleNamespace(name_or_path="loaded")),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # never used
        SimpleNamespace(),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # never used
        dialect="chatml",
    )
    with forbid_model_requests(), pytest.raises(RequestsForbiddenError, match="'loaded'"):
        anyio.run(written, model)


def test_the_embedded_model_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SDK_CACHE", str(tmp_path))
    with forbid_model_requests():
        for ask in (EmbeddedModel().load, lambda: anyio.run(written, EmbeddedModel())):
            with pytest.raises(RequestsForbiddenError):
                ask()
    assert not list(tmp_path.iterdir())


def test_nothing_is_sent_to_a_server() -> None:
    with ScriptedServer(lambda _: ["Hello."]) as server:
        model = Endpoint("scripted", base_url=server.url)

        async def prove() -> None:
            await model.guarantee(GRAMMAR, prove=True)

        async def probe() -> None:
            await model.probe()

        with forbid_model_requests():
            for ask in (lambda: anyio.run(written, model), lambda: anyio.run(prove), lambda: anyio.run(probe)):
                with pytest.raises(RequestsForbiddenError):
                    ask()
            assert not server.requests
        assert anyio.run(written, model) == "Hello."


def test_an_object_of_outlines_is_not_asked() -> None:
    from hermes_agent.models.outlines_model import OutlinesModel
    from tests.test_outlines_model import Blocking, RawAdapter

    blocking: Any = Blocking(["Hello."], RawAdapter())
    with forbid_model_requests(), pytest.raises(RequestsForbiddenError):
        anyio.run(written, OutlinesModel(blocking))
    assert not blocking.asked


def test_models_for_tests_write_on(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    with forbid_model_requests():
        for model in (
            ScriptedModel(["Done."]),
            FillingModel(),
            Fallback(ScriptedModel([]), ScriptedModel(["Done."])),
            Recorder(ScriptedModel(["Done."]), tape),
        ):
            assert is_for_tests(model)
            check_requests_allowed(model)
            assert Agent(model).run_sync("Hi").output == "Done."
        assert is_for_tests(Replay(tape))
        assert Agent(Replay(tape)).run_sync("Hi").output == "Done."


def test_a_fallback_and_a_recorder_are_as_real_as_their_models(tmp_path: Path) -> None:
    real = LocalModel("some/model", source=Untouchable(), dialect="chatml")
    tape = tmp_path / "tape.jsonl"
    behind = ScriptedModel(["Done."])
    for model in (Fallback(real, behind), Fallback(ScriptedModel([]), real), Recorder(real, tape)):
        assert not is_for_tests(model)
        with forbid_model_requests(), pytest.raises(RequestsForbiddenError):
            anyio.run(written, model)
    assert not behind.requests, "a refusal must not be passed over"
    assert "error" not in tape.read_text()


def test_a_model_of_ones_own_may_say_that_it_is_for_tests() -> None:
    with forbid_model_requests():
        check_requests_allowed(Named("mine", for_tests=True))
