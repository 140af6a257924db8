"""The thin facade for code that is not async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from hermes_agent.errors import ConfigurationError

__all__ = ["waited_for"]

T = TypeVar("T")


def waited_for(run: Callable[[], Awaitable[T]], *, called: str, instead: str) -> T:
    """What an async function returns, on an event loop of its own.

    Args:
        run: The function.
        called: What the user called, for the message.
        instead: What to write where an event loop is running.

    Raises:
        ConfigurationError: One is, such as in a notebook.
    """
    import anyio
    import sniffio

    try:
        sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        pass
    else:
        raise ConfigurationError(
            f"{called} was called where an event loop is running", hint=f"use `await {instead}` here"
        )
    # Kept out of the task's own result: asyncio's runner formats that on Python 3.11, whole history and all.
    results: list[T] = []

    async def go() -> None:
        results.append(await run())

    anyio.run(go)
    return results[0]
