"""A job on Ray Data: the rows go out to workers on this machine or others, which load the model once each.

This process reads the rows and keeps the state of the job. Windows of rows flow through one streaming execution of
Ray Data, only so many at a time. Whatever Ray does with a window (it runs tasks again after a worker's death), a row is
settled once: by the first answer that comes.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from types import ModuleType
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from hermes_agent.errors import ConfigurationError, ModelError
from hermes_agent.extract.engine import settle
from hermes_agent.extract.extractor import Extractor
from hermes_agent.extract.ray_workers import Answer, Feed, Worker, window_source
from hermes_agent.extract.result import Extraction
from hermes_agent.extract.row import Row, Settled
from hermes_agent.limits import NOTHING

__all__ = ["Course", "RayEngine"]

_AT_ONCE = 2
"""Windows that a worker settles at the same time: the last rows of one never leave it idle."""

_AHEAD = 4
"""Windows on their way, for each worker."""

_WINDOW_SECONDS = 2.0
_LEAST, _MOST = 4, 512
_MOST_CHARACTERS = 4_000_000
_TRIES = 3
"""Workers that may die over a window before its rows are looked at one by one."""

_SPLIT = 8
_LOSSES = 5
_STOP_SECONDS = 20.0

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
FILE_MODULES = "_hermes_sdk_"
"""What the names of modules begin with that the command line has loaded from files."""


class RayEngine:
    """Rows in worker processes of Ray, on as many machines as its cluster has.

    Where Ray is not running, it is started on this machine for the job, and stopped behind it.

    Args:
        workers: How many; ``None`` takes one for each GPU if the model needs them, else one for each CPU core.
        cpus: CPU cores for each; ``None`` takes one, or less where there are more workers than cores.
        gpus: GPUs for each; ``None`` takes one where the cluster has any and the model runs in the worker.
    """

    def __init__(self, workers: int | None = None, *, cpus: float | None = None, gpus: float | None = None) -> None:
        self.workers, self.cpus, self.gpus = workers, cpus, gpus

    async def run(self, extractor: Extractor[Any], rows: Iterator[Row], settled: Callable[[Settled], None]) -> None:
        """Settle every row.

        Raises:
            ConfigurationError: Ray is not installed, or the extractor cannot travel to workers.
            ModelError: The model cannot be had, or worker after worker has died.
        """
        first = next(rows, None)
        if first is None:  # nothing that Ray would have to be started for
            return
        ray = _ray()
        course = Course(ray, self, extractor, _packed(ray, extractor), chain([first], rows), settled)
        try:
            await anyio.to_thread.run_sync(course.drive, abandon_on_cancel=True)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(course.stop)
            raise


class _EndedError(Exception):
    """The job has been stopped meanwhile."""


class Course:
    """One run of the engine. What touches rows and state is done on the job's own thread."""

    def __init__(
        self,
        ray: Any,
        engine: RayEngine,
        extractor: Extractor[Any],
        packed: bytes,
        rows: Iterator[Row],
        settled: Callable[[Settled], None],
    ) -> None:
        self._ray, self._engine, self._extractor, self._packed = ray, engine, extractor, packed
        self._rows, self._settled = rows, settled
        self._size = self._least = max(_LEAST, int(getattr(extractor.model, "batch_size", 1)))
        self._windows: dict[int, dict[int, Row]] = {}
        """What is under way: windows by number, their rows by position."""
        self.feed: Any = None
        """The actor that hands the windows out."""
        self._given = 0
        self._exhausted = False
        # Rows that may have cost workers their lives: asked with nothing else under way, and ever fewer at once.
        self._suspects: deque[Row] = deque()
        self._few = 1
        self._alone: int | None = None
        self._losses = 0
        self._ended = False
        self._finished = threading.Event()

    def drive(self) -> None:
        """Work through the rows; in a thread of its own, since Ray waits by blocking."""
        try:
            with _running(self._ray):
                while not self._ended and (self._windows or self._suspects or not self._exhausted):
                    self._pass()
        except _EndedError:
            pass
        finally:
            self._finished.set()

    def stop(self) -> None:
        """End it from another thread, and wait until what was started is gone."""
        self._ended = True
        if not self._finished.is_set():
            self._kill_feed()
        self._finished.wait(_STOP_SECONDS)

    def _kill_feed(self) -> None:
        """Without it an execution of Ray Data ends, and its workers with it."""
        feed, self.feed = self.feed, None
        if feed is not None:
            with suppress(Exception):  # Ray is gone already, which is what was wanted
                self._ray.kill(feed)

    def _pass(self) -> None:
        """One execution of Ray Data; what is lost with it is left for the next.

        Raises:
            ModelError: Nothing gets through.
        """
        left = [*self._suspects, *(row for rows in self._windows.values() for row in rows.values())]
        self._suspects.clear()
        self._rows, self._windows, self._given, self._exhausted = chain(left, self._rows), {}, 0, False
        self._alone = None
        workers, dataset = self._dataset()
        try:
            self._on_the_job(self.fill, workers)
            for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
                for number, answer in zip(batch["number"], batch["answer"], strict=True):
                    self._on_the_job(self.took, int(number), answer, workers)
        except self._ray.exceptions.RayError as error:
            self._on_the_job(self._lose, _first_line(error))
        finally:
            self._kill_feed()

    def _on_the_job(self, function: Callable[..., None], *args: object) -> None:
        def call() -> None:
            if self._ended:
                raise _EndedError
            function(*args)

        anyio.from_thread.run_sync(call)

    def fill(self, workers: int) -> None:
        """Send windows out until enough are under way."""
        while self._alone not in self._windows and not self._suspects and len(self._windows) < workers * _AHEAD:
            if not (rows := self._window(self._size)):
                self._exhausted = True
                break
            self._send(rows)
        if self._windows:
            return
        if self._suspects:
            self._alone = self._given
            self._send([self._suspects.popleft() for _ in range(min(self._few, len(self._suspects)))])
        else:
            self.feed.close.remote(self._given)

    def _send(self, rows: list[Row]) -> None:
        self._windows[self._given] = {row.position: row for row in rows}
        self.feed.put.remote(self._given, pickle.dumps(rows))
        self._given += 1

    def _window(self, size: int) -> list[Row]:
        rows: list[Row] = []
        characters = 0
        while len(rows) < size and characters < _MOST_CHARACTERS and (row := next(self._rows, None)) is not None:
            rows.append(row)
            characters += len(row.text)
        return rows

    def took(self, number: int, packed: bytes, workers: int) -> None:
        """An answer has come.

        Raises:
            HermesError: What ends the job.
        """
        answer: Answer = pickle.loads(packed)
        rows = self._windows.get(number, {})
        for row in answer.settled:
            if rows.pop(row.position, None) is not None:
                self._settled(row)
                self._losses = 0
        if answer.error is not None:
            raise answer.error
        if number not in self._windows:
            return
        del self._windows[number]
        self.feed.drop.remote(number)
        if answer.deaths:
            self._suspect(number, [*rows.values()], answer.deaths)
        elif number != self._alone:
            wanted = int(len(answer.settled) * _WINDOW_SECONDS / max(answer.seconds, 0.01))
            self._size = max(self._least, min(wanted, 2 * self._size, _MOST))
        self.fill(workers)

    def _suspect(self, number: int, rows: list[Row], deaths: int) -> None:
        """One worker after another has died while it had this window.

        Raises:
            ModelError: And with others as well: it is not for their rows.
        """
        if number != self._alone or len(rows) > 1:
            self._suspects.extendleft(reversed(rows))
            self._few = max(1, len(rows) // _SPLIT)
            return
        self._lose(f"{deaths} workers have died over row {rows[0].id!r}")
        died = ModelError(f"{deaths} workers have died, one after another, when they were given this row")
        self._settled(settle(self._extractor, rows[0], Extraction(None, died, NOTHING, None, 0)))

    def _lose(self, why: str) -> None:
        self._losses += 1
        if self._losses >= _LOSSES:
            raise ModelError(
                f"workers of Ray die and no row gets through: {why}",
                hint="see the logs of Ray; what is settled is kept, run the same job again",
            )

    def _dataset(self) -> tuple[int, Any]:
        """How many workers there are, and the settled windows, which come when they are iterated over."""
        ray = self._ray
        data = importlib.import_module("ray.data")
        resources: dict[str, float] = ray.cluster_resources()
        cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
        per_gpu = self._engine.gpus
        if per_gpu is None:
            per_gpu = 1.0 if gpus and hasattr(self._extractor.model, "batch_size") else 0.0
        workers = self._engine.workers or max(1, int(gpus / per_gpu if per_gpu else cpus))
        per_cpu = min(1.0, cpus / workers) if self._engine.cpus is None else self._engine.cpus
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.feed = ray.remote(Feed).options(num_cpus=0, scheduling_strategy=here).remote()
        context = data.DataContext.get_current().copy()
        context.target_max_block_size = 1  # a window is a block, and goes out when it is there
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        with data.DataContext.current(context):
            dataset = data.read_datasource(window_source(self.feed), override_num_blocks=1, num_cpus=0).map_batches(
                Worker,
                fn_constructor_args=(self._packed, self.feed, _TRIES),
                batch_size=None,
                batch_format="numpy",
                num_cpus=per_cpu,
                num_gpus=per_gpu,
                compute=data.ActorPoolStrategy(
                    size=workers,
                    max_tasks_in_flight_per_actor=_AT_ONCE + 1,
                    max_concurrent_calls_per_actor=_AT_ONCE,
                    enable_true_multi_threading=True,
                ),
            )
        return workers, dataset


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _ray() -> Any:
    """Ray, quiet.

    Raises:
        ConfigurationError: It is not installed.
    """
    # Read when Ray is imported, and by the processes that it starts.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        ray: Any = importlib.import_module("ray")
        for name in ("ray.data", "ray.util.scheduling_strategies"):
            importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"the engine 'ray' needs Ray Data: {error}", hint="pip install 'hermes-agent-sdk[ray]'"
        ) from error
    return ray


@contextmanager
def _running(ray: Any) -> Generator[None]:
    """Ray is running; where it was not, it is started, and stopped afterwards."""
    loggers = {"ray": logging.getLogger("ray"), "ray.data": logging.getLogger("ray.data")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    ours = not ray.is_initialized()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.")  # of its own defaults, or of fewer rows than workers
            if ours:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            yield
    finally:
        if ours:
            ray.shutdown()
        for name, logger in loggers.items():
            logger.setLevel(levels[name])


def _packed(ray: Any, extractor: Extractor[Any]) -> bytes:
    """The extractor as it travels: types from a user's file by value, since no worker could import that.

    Raises:
        ConfigurationError: It cannot.
    """
    files = [module for name, module in sys.modules.items() if name.startswith(FILE_MODULES)]
    try:
        with _by_value(ray, files):
            packed: bytes = ray.cloudpickle.dumps(extractor)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the extractor cannot travel to workers: {_first_line(error)}",
            hint="give the model by its name, such as model='hf:<id>', or one that can be pickled; the same holds for "
            "validators and types",
        ) from error
    return packed


@contextmanager
def _by_value(ray: Any, modules: list[ModuleType]) -> Generator[None]:
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            ray.cloudpickle.unregister_pickle_by_value(module)
