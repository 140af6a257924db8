"""Jobs on a real Ray: two workers on this machine, and what becomes of the rows when one of them is killed."""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hermes_agent.cli.load import load_object
from hermes_agent.errors import ConfigurationError, ModelUnavailableError
from hermes_agent.extract import Extractor
from hermes_agent.extract.ray_engine import Course, RayEngine
from hermes_agent.extract.ray_workers import Answer, Feed, portable
from hermes_agent.extract.row import Row, Settled
from hermes_agent.output import Output
from tests.ray_cast import Counted, Invoice

ROWS = [f"n{i} {i}" if i % 7 else f"bad{i} x" for i in range(120)]


@pytest.fixture(scope="module")
def _ray() -> Generator[None]:
    """Ray with two cores, whose secret is not written to anybody's home."""
    mine = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    before = {name: os.environ.get(name) for name in mine}
    os.environ.update(mine)
    ray: Any = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def asked(folder: Path) -> Counter[str]:
    return Counter(line for file in folder.glob("*.asked") for line in file.read_text().splitlines())


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


@pytest.mark.usefixtures("_ray")
def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    there, here = folder(tmp_path, "there"), folder(tmp_path, "here")
    on_ray = Extractor(Invoice, Counted(there, deadly="n20 20")).map(
        ROWS, out=tmp_path / "ray.jsonl", engine="ray", concurrency=2, progress=False
    )
    assert (there / "killed").exists()
    assert len([*there.glob("*.asked")]) >= 3  # two workers, and the one in place of the dead one
    local = Extractor(Invoice, Counted(here)).map(ROWS, out=tmp_path / "local.jsonl", progress=False)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert (on_ray.rows, on_ray.failed, on_ray.causes) == (local.rows, local.failed, local.causes)
    assert on_ray.usage == local.usage  # what was asked twice is not counted twice
    assert set(asked(there)) == set(asked(here))


@pytest.mark.usefixtures("_ray")
def test_a_model_that_is_gone_ends_the_job_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """The type is of a file that no worker can import."""
    (tmp_path / "schema.py").write_text(
        "from pydantic import BaseModel\n\n\nclass Paid(BaseModel):\n    name: str\n    total: int\n"
    )
    (tmp_path / "gone").touch()
    paid = load_object(f"{tmp_path / 'schema.py'}:Paid")
    extractor = Extractor[Any](paid, Counted(tmp_path))
    rows = [f"n{i} {i}" for i in range(40)] + ["gone 1"]
    out = tmp_path / "out.jsonl"
    with pytest.raises(ModelUnavailableError) as caught:
        extractor.map(rows, out=out, engine="ray", concurrency=1, progress=False)
    assert (caught.value.message, caught.value.hint) == ("the model is gone", "bring it back")
    (tmp_path / "gone").unlink()
    settled = {json.loads(line)["id"] for line in out.read_text().splitlines()}
    assert settled
    summary = extractor.map(rows, out=out, engine="ray", concurrency=1, progress=False)
    assert (summary.rows, summary.failed, summary.already) == (41, 0, len(settled))
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [*range(41)]
    assert all(asked(tmp_path)[rows[position]] == 1 for position in settled)


@pytest.mark.usefixtures("_ray")
def test_rows_are_taken_as_they_are_needed_and_a_stopped_job_leaves_nothing_running(tmp_path: Path) -> None:
    pulled, done = count(), 0
    taken = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        for i in pulled:  # without end
            taken = i + 1
            yield Row(i, i, f"n{i} {i}")

    async def go() -> int:
        most = 0
        with anyio.CancelScope() as scope:

            def settled(_row: Settled) -> None:
                nonlocal done, most
                done += 1
                most = max(most, taken - done)
                if done == 100:
                    scope.cancel()

            await RayEngine(2).run(Extractor(Invoice, Counted(tmp_path)), rows(), settled)
        assert scope.cancelled_caught
        return most

    assert anyio.run(go) < 2 * 4 * 512
    until = time.monotonic() + 30
    while any("StreamingExecutor" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < until, "Ray's own thread goes on"
        time.sleep(0.05)


def test_an_extractor_crosses_processes_by_what_it_was_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extractor = Extractor(
        Invoice, "hf:some/model", instructions="Take it.", examples=[("a 1", Invoice(name="a", total=1))]
    )
    again = pickle.loads(pickle.dumps(extractor))
    assert again.fingerprint == extractor.fingerprint
    assert again.model.name == "hf:some/model"
    monkeypatch.setenv("HERMES_SDK_MODEL", "hf:some/other")
    packed = pickle.dumps(Extractor(Invoice))
    monkeypatch.delenv("HERMES_SDK_MODEL")
    assert pickle.loads(packed).model.name == "hf:some/other"
    with pytest.raises(ConfigurationError, match="asking_for"):
        pickle.dumps(extractor.asking_for(Output.of(Invoice), ""))


def test_what_cannot_travel_is_refused_with_the_way_out(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    model: Any = Counted(tmp_path)
    model.lock = threading.Lock()
    with pytest.raises(ConfigurationError, match="cannot travel to workers") as caught:
        Extractor(Invoice, model).map(["a 1"], out=tmp_path / "out.jsonl", engine="ray", progress=False)
    assert "by its name" in caught.value.hint


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError) as caught:
        Extractor(Invoice, Counted(tmp_path)).map(["a 1"], out=tmp_path / "out.jsonl", engine="ray", progress=False)
    assert "pip install 'hermes-agent-sdk[ray]'" in caught.value.hint


def test_the_feed_gives_a_window_as_often_as_it_is_asked_for_until_it_is_settled() -> None:
    async def go() -> None:
        feed = Feed()
        got: list[bytes | None] = []

        async def get() -> None:
            got.append(await feed.get(0))

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await anyio.lowlevel.checkpoint()
            await feed.put(0, b"a")
        await feed.put(1, b"b")
        assert got == [b"a"]
        assert await feed.get(0) == b"a"
        await feed.drop(1)
        assert (await feed.get(0), await feed.get(1)) == (b"a", b"")
        await feed.drop(0)
        await feed.close(2)
        assert (await feed.get(0), await feed.get(1), await feed.get(2)) == (b"", b"", None)

    anyio.run(go)


class _Remote:
    """An actor's method that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def remote(self, *args: Any) -> None:
        self.calls.append(args)


class _FakeFeed:
    def __init__(self) -> None:
        self.put, self.drop, self.close = _Remote(), _Remote(), _Remote()


def test_a_row_that_kills_workers_costs_one_row(tmp_path: Path) -> None:
    """Its windows become smaller, nothing else being under way, until it is alone in one."""
    rows = [Row(i, i, f"n{i} {i}") for i in range(100)]
    found: dict[int, Settled] = {}

    def settled(row: Settled) -> None:
        assert found.setdefault(row.position, row) is row

    extractor = Extractor(Invoice, Counted(tmp_path))
    course = Course(None, RayEngine(1), extractor, b"", iter(rows), settled)
    feed = course.feed = _FakeFeed()
    course.fill(1)
    sent = 0
    while sent < len(feed.put.calls):
        number, window = feed.put.calls[sent]
        sent += 1
        inside = pickle.loads(window)
        if any(row.position == 42 for row in inside):
            answer = Answer([], deaths=3)
        else:
            answer = Answer([Settled(row.position, row.digest, "{}", failed=False) for row in inside], 0.1)
        course.took(number, pickle.dumps(answer), 1)
    assert sorted(found) == [*range(100)]
    assert [row.position for row in found.values() if row.failed] == [42]
    assert json.loads(found[42].line)["error"]["type"] == "ModelError"
    assert feed.close.calls == [(sent,)]


def test_errors_travel_as_what_they_are() -> None:
    error = ModelUnavailableError("gone", hint="bring it back")
    again = pickle.loads(pickle.dumps(portable(ExceptionGroup("", [error]))))
    assert (type(again), again.message, again.hint) == (ModelUnavailableError, "gone", "bring it back")
    assert "ZeroDivisionError: by zero" in str(portable(ZeroDivisionError("by zero")))
