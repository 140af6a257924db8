"""Writes to a journal until it is killed: ``python -m tests.journal_writer FILE``, told what to do on its stdin.

For each line, the name of an event loop, it forks a process that goes on with four runs and says ``run at`` for each
record that is on disk. Forking spares the imports.
"""

from __future__ import annotations

import os
import sys

import anyio

from hermes_agent.journal import Journal
from hermes_agent.limits import Usage
from hermes_agent.record import PartWritten, RunBegan

RUNS = ("a", "b", "c", "a/call_0")


async def write(file: str) -> None:
    async with Journal(file) as journal, anyio.create_task_group() as group:
        lengths = {run.run_id: run.records for run in journal.runs(nested=True)}

        async def go_on(run: str) -> None:
            at = lengths.get(run, 0)
            while True:
                await journal.append(
                    run, at, RunBegan(f"{run} 0") if at == 0 else PartWritten(at, f"{run} {at}", Usage())
                )
                os.write(1, f"{run} {at}\n".encode())
                at += 1

        for run in RUNS:
            group.start_soon(go_on, run)


def main() -> None:
    file = sys.argv[1]
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                anyio.run(write, file, backend=line.strip())
            finally:
                os._exit(1)
        os.write(1, f"pid {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"gone {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
