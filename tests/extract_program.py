"""Runs an extraction job until it is killed: ``python -m tests.extract_program``, told what to do on its stdin.

For each line of JSON, a `Life`, it forks a process, which spares it the imports, kills it when its time has come, and
answers with its exit status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import anyio
from pydantic import BaseModel

from hermes_agent.extract import Extractor, output_jsonl, state
from hermes_agent.extract.state_file import open_file
from hermes_agent.limits import Limits
from hermes_agent.messages import UserMessage
from hermes_agent.models.base import Chunk, Request
from hermes_agent.testing import ScriptedModel

ASKED = "asked"


@dataclass(frozen=True)
class Life:
    """What a process does, and how it ends.

    Attributes:
        folder: Where it tells what it asked the model for.
        out: The output.
        rows: How many rows the input has.
        after: It is killed after so many seconds, if it lives that long.
        at: It kills itself at the so manieth thing that it does to files.
        retry: Ask for failed rows again; then they succeed.
    """

    folder: str
    out: str
    rows: int
    after: float | None = None
    at: int | None = None
    retry: bool = False


class Fact(BaseModel):
    number: int


def text_of(position: int) -> str:
    return f"text {position} ends"


def fails(position: int) -> bool:
    return position % 7 == 3


class Slow(ScriptedModel):
    """Answers with the number in the text, after a while, and tells that it was asked."""

    def __init__(self, life: Life) -> None:
        super().__init__([])
        self._life = life
        self._log = os.open(Path(life.folder) / ASKED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def generate(self, request: Request) -> AsyncGenerator[Chunk, None]:
        asked = [message.text for message in request.messages if isinstance(message, UserMessage)][-1]
        position = int(asked.split()[1])
        os.write(self._log, f"{position}\n".encode())
        await anyio.sleep(0.001 * (position % 5))  # so that rows end in another order
        wrong = fails(position) and not self._life.retry
        yield Chunk("nonsense" if wrong else f'{{"number": {position}}}', finish_reason="stop")


class Points:
    """Counts what is done to files; the order may be to die at one of them."""

    def __init__(self, at: int | None) -> None:
        self._left = at

    def pass_by(self, _: object = None) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def write(self, handle: int, content: bytes) -> None:
        half = len(content) // 2
        os.write(handle, content[:half])
        self.pass_by()
        os.write(handle, content[half:])
        self.pass_by()


def live(life: Life) -> None:
    points = Points(life.at)

    def opened(path: Path) -> object:
        points.pass_by()
        connection = open_file(path)
        connection.set_trace_callback(points.pass_by)
        return connection

    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        points.pass_by()
        found = replace(path, target)
        points.pass_by()
        return found

    with (
        patch.object(state, "open_file", opened),
        patch.object(output_jsonl, "_write_all", points.write),
        patch.object(Path, "replace", replaced),
    ):
        extractor = Extractor(Fact, Slow(life), limits=Limits(corrections=0))
        extractor.map(map(text_of, range(life.rows)), out=life.out, retry=life.retry, concurrency=16, progress=False)


def carry_out(life: Life) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            live(life)
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(status)
    until = None if life.after is None else time.monotonic() + life.after
    while until is not None and time.monotonic() < until:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            break
        time.sleep(0.001)
    if until is not None:
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def as_line(life: Life) -> str:
    return json.dumps(asdict(life)) + "\n"


if __name__ == "__main__":
    for name in ("pyarrow.parquet", "hermes_agent.extract.job", "hermes_agent.extract.inputs"):
        import_module(name)  # once, not in each process
    for line in sys.stdin:
        sys.stdout.write(f"{carry_out(Life(**json.loads(line)))}\n")
        sys.stdout.flush()
