from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import sniffio

from hermes_agent import threads
from hermes_agent.threads import in_thread

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    return lambda main: anyio.run(main, backend=request.param)


Loop = Callable[[Callable[[], Awaitable[Any]]], Any]


def test_a_function_sees_its_callers_variables_and_another_thread(loop: Loop) -> None:
    async def main() -> tuple[str, bool]:
        colour.set("red")
        return await in_thread(lambda: (colour.get(), threading.current_thread() is threading.main_thread()))

    assert loop(main) == ("red", False)


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration("no"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_function_raises_is_raised_where_it_is_awaited(loop: Loop, error: BaseException) -> None:
    def bad() -> None:
        raise error

    async def main() -> BaseException | None:
        try:
            await in_thread(bad)
        except BaseException as caught:  # noqa: BLE001  # the very thing that is asked for
            # asyncio and trio make a RuntimeError of a StopIteration that leaves a coroutine.
            return caught.__cause__ if isinstance(caught, RuntimeError) else caught
        return None

    assert loop(main) is error


def test_a_coroutine_is_a_value_like_any_other(loop: Loop) -> None:
    async def later() -> int:
        return 3

    async def main() -> int:
        return await (await in_thread(later))

    assert loop(main) == 3


def test_cancelling_the_caller_leaves_the_thread_behind(loop: Loop) -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        go_on.wait()
        ended.set()

    async def main() -> bool:
        async with anyio.create_task_group() as group:
            group.start_soon(in_thread, slow)
            await in_thread(started.wait)
            group.cancel_scope.cancel()
        return ended.is_set()

    assert not loop(main)  # we did not wait for it
    go_on.set()  # on asyncio its news comes when the loop is closed: it must come to its end all the same
    assert ended.wait(10)


def test_threads_that_hang_keep_nobody_else_waiting(loop: Loop) -> None:
    go_on = threading.Event()

    async def main() -> str:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(60):
                    group.start_soon(in_thread, go_on.wait)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            return await in_thread(lambda: "at once")

    try:
        assert loop(main) == "at once"
    finally:
        go_on.set()


def test_calls_one_after_the_other_share_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []  # without those that other tests have left at work
    monkeypatch.setattr(threads, "_idle", kept)

    async def main() -> set[int]:
        return {await in_thread(threading.get_ident) for _ in range(50)}

    assert len(anyio.run(main)) == 1
    assert len(kept) == 1


def test_calls_side_by_side_have_a_thread_each(loop: Loop) -> None:
    together = threading.Barrier(8)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(in_thread, together.wait)

    loop(main)  # ends only if all eight wait at the same time


def test_no_event_loop_is_said_to_run_in_the_thread(loop: Loop) -> None:
    def library() -> str | None:
        try:
            return sniffio.current_async_library()
        except sniffio.AsyncLibraryNotFoundError:
            return None

    async def main() -> str | None:
        return await in_thread(library)

    assert loop(main) is None
