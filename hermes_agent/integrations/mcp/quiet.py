"""The SDK's own log, kept from people who did not ask for it.

It logs errors with tracebacks and with what the other side wrote, and where a program has not set up logging, Python
prints those. We report the same as errors of our own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["quiet_sdk"]

_logger = logging.getLogger("hermes_agent.mcp")

_sdk = logging.getLogger("mcp")
_sdk_client = logging.getLogger("client")  # what its session logs to; the name may be the program's too


class _Aside(logging.Handler):
    """Hands records on to our own log, at ``DEBUG``."""

    def emit(self, record: logging.LogRecord) -> None:
        _logger.debug("%s: %s", record.name, record.getMessage(), exc_info=record.exc_info)


class _OnlyTheSdk(logging.Filter):
    """Takes the SDK's records out of a logger, and hands them on."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "mcp" not in Path(record.pathname).parts:
            return True
        _aside.emit(record)
        return False


_aside, _only = _Aside(), _OnlyTheSdk()
_lock = threading.Lock()
_held = 0
_propagated = True


@contextmanager
def quiet_sdk() -> Generator[None]:
    """Inside, the SDK's log goes to ``hermes_agent.mcp`` at ``DEBUG``; blocks may overlap, in several threads."""
    global _held, _propagated
    with _lock:
        _held += 1
        if _held == 1:
            _propagated, _sdk.propagate = _sdk.propagate, False
            _sdk.addHandler(_aside)
            _sdk_client.addFilter(_only)
    try:
        yield
    finally:
        with _lock:
            _held -= 1
            if not _held:
                _sdk.propagate = _propagated
                _sdk.removeHandler(_aside)
                _sdk_client.removeFilter(_only)
