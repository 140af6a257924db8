"""The command as a process: how it ends, and what it leaves on a terminal."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.command import environment, hermes, process, tools_file

SLOW = '''
import os
import signal
import subprocess
import sys
import threading

from anyio import sleep_forever

from hermes_agent.models.base import Chunk
from hermes_agent.testing import ScriptedModel

NAP = '<tool_call>\\n{"name": "nap", "arguments": {}}\\n</tool_call>'


def nap() -> str:
    """Never wake up."""
    print("napping", file=sys.stderr, flush=True)
    threading.Event().wait()
    return ""


def child() -> str:
    """Let another process print."""
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return "printed"


class Stuck(ScriptedModel):
    """Begins to write, and never goes on."""

    async def generate(self, request):
        yield Chunk("Once upon a time")
        print("writing", file=sys.stderr, flush=True)
        try:
            await sleep_forever()
        finally:
            print("generation stopped", file=sys.stderr, flush=True)


class StuckOnce(Stuck):
    """Answers from the second question on."""

    async def generate(self, request):
        self.asked = getattr(self, "asked", 0) + 1
        kind = Stuck if self.asked == 1 else ScriptedModel
        async for chunk in kind.generate(self, request):
            yield chunk


def interrupt_unnoticed() -> None:
    """A Ctrl-C that Python notes, and that wakes nobody: as one does that comes just before a call that blocks."""
    with open(os.environ["PIPE"]) as pipe:
        for _ in iter(lambda: pipe.read(1), ""):
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)


if "PIPE" in os.environ:
    threading.Thread(target=interrupt_unnoticed, daemon=True).start()


def naps() -> ScriptedModel:
    return ScriptedModel([NAP, "Done."])


def children() -> ScriptedModel:
    return ScriptedModel([NAP.replace("nap", "child"), "Done."])


def stuck() -> ScriptedModel:
    return Stuck([])


def stuck_once() -> ScriptedModel:
    return StuckOnce(["Second answer."])
'''


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return tools_file(tmp_path, SLOW, "slow.py")


def until(lines: IO[str], mark: str) -> str:
    """Read lines up to the one that holds the mark."""
    seen = ""
    for line in lines:
        seen += line
        if mark in line:
            return seen
    raise AssertionError(f"{mark!r} did not come; what came:\n{seen}")


def test_ctrl_c_while_the_model_writes(slow: Path) -> None:
    with process("run", "q", "-m", f"{slow}:stuck") as running:
        assert running.stderr is not None
        assert running.stdout is not None
        seen = until(running.stderr, "writing")
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait() == 130
        assert running.stdout.read() == ""
    assert "generation stopped" in rest
    assert "\nstopped\n" in seen + rest
    assert "Traceback" not in rest


def test_ctrl_c_does_not_wait_for_a_tool_that_hangs_in_a_thread(slow: Path) -> None:
    with process("run", "q", "-m", f"{slow}:naps", "-t", f"{slow}:nap") as running:
        assert running.stderr is not None
        until(running.stderr, "napping")
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait() == 130
    assert rest.splitlines()[0] == "stopped"
    assert rest.splitlines()[1].startswith("1 step, 1 call · ")
    assert len(rest.splitlines()) == 2


def test_ctrl_c_in_json_is_an_object_too(slow: Path) -> None:
    with process("run", "q", "-m", f"{slow}:naps", "-t", f"{slow}:nap", "--json") as running:
        assert running.stderr is not None
        assert running.stdout is not None
        until(running.stderr, "napping")
        running.send_signal(signal.SIGINT)
        told = json.loads(running.stdout.read())
        assert running.stderr.read() == ""
        assert running.wait() == 130
    assert told["error"]["class"] == "KeyboardInterrupt"
    assert told["usage"]["tool_calls"] == 1


def test_what_a_tools_child_process_prints_is_not_on_stdout(slow: Path) -> None:
    with process("run", "q", "-m", f"{slow}:children", "-t", f"{slow}:child", "--json") as running:
        out, err = running.communicate()
    assert running.returncode == 0
    assert json.loads(out)["output"] == "Done."
    assert err == "from a child\n"


@pytest.mark.parametrize("arguments", [["grammar", "--tools", "calculator"], ["run", "--help"]])
def test_a_closed_pipe_is_quiet(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, only earlier
    try:
        with process(*arguments, stdout=writer) as running:
            assert running.stderr is not None
            assert running.stderr.read() == ""
            assert running.wait() == 1
    finally:
        os.close(writer)


def test_an_old_encoding_shows_escapes_instead_of_failing(tmp_path: Path) -> None:
    env = environment(PYTHONIOENCODING="ascii")
    turn = tmp_path / "turn.txt"
    turn.write_text("caf\u00e9 \u2192", encoding="utf-8")
    with process("parse", turn, env=env) as running:
        out, _ = running.communicate()
    assert running.returncode == 0
    assert "caf\\xe9 \\u2192" in out


def test_help_is_light_and_shows_the_way() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from hermes_agent.cli import app\n"
        "shown = CliRunner().invoke(app, ['--help']).output\n"
        "heavy = {'pydantic', 'torch', 'transformers', 'outlines', 'openai', 'httpx', 'jsonschema', 'jinja2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "print(shown)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("run", "chat", "parse", "grammar", "models"):
        assert f"│ {command} " in done.stdout
    assert 'hermes-sdk run "What is 17 * 23?" --tools calculator' in done.stdout


@pytest.mark.parametrize("command", ["run", "chat", "parse", "grammar", "models"])
def test_each_command_has_help_with_examples(command: str) -> None:
    ran = hermes(command, "--help")
    assert ran.code == 0
    assert f"hermes-sdk {command}" in ran.out
    assert "Examples:" in ran.out
    assert "Args:" not in ran.out


def test_version() -> None:
    ran = hermes("--version")
    assert ran.code == 0
    assert ran.out.startswith("hermes-sdk")


def test_no_command_is_wrong_usage_and_shows_help() -> None:
    ran = hermes()
    assert ran.code == 2
    assert "Commands" in ran.out + ran.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    file = tools_file(tmp_path, "raise ValueError('boom')\n")
    with process("run", "q", "--tools", file, "--debug") as running:
        _, err = running.communicate()
    assert running.returncode == 1
    assert "Traceback" in err
    assert "ValueError: boom" in err


# On a terminal.

PATIENCE = 60  # seconds without a sign of life after which a test fails

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")


class Terminal:
    """A terminal with the command on it: type into it, and read what it shows."""

    def __init__(self, descriptor: int, running: subprocess.Popen[str]) -> None:
        self.running = running
        self._descriptor = descriptor
        self._unread = b""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> None:
        self.running.send_signal(signal.SIGINT)

    def until(self, mark: str) -> str:
        """What is shown from here on, up to and with the mark."""
        while mark.encode() not in self._unread:
            piece = self._read()
            assert piece, f"{mark!r} did not come; what came:\n{self._unread.decode()}"
            self._unread += piece
        end = self._unread.index(mark.encode()) + len(mark.encode())
        seen, self._unread = self._unread[:end], self._unread[end:]
        return seen.decode().replace("\r\n", "\n")

    def to_the_end(self) -> str:
        """What is shown from here on until the command closes the terminal."""
        while piece := self._read():
            self._unread += piece
        return self._unread.decode().replace("\r\n", "\n")

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], PATIENCE)
        assert ready, f"nothing more came; what came:\n{self._unread.decode()}"
        try:
            return os.read(self._descriptor, 4096)
        except OSError:  # how Linux says that the other end is closed
            return b""


@contextmanager
def at_a_terminal(*arguments: str | Path, **env: str) -> Generator[Terminal]:
    """The command on a terminal of its own."""
    ours, theirs = pty.openpty()
    settings = environment(TERM="xterm-256color", **env)
    with process(*arguments, env=settings, terminal=theirs) as running:
        os.close(theirs)
        try:
            yield Terminal(ours, running)
        finally:
            running.kill()
            os.close(ours)


def test_a_terminal_gets_one_trace_in_colour_and_nothing_hostile(tmp_path: Path) -> None:
    file = tools_file(tmp_path)
    with at_a_terminal("run", "q", "-m", f"{file}:meets_hostility", "-t", f"{file}:hostile") as terminal:
        seen = terminal.to_the_end()
        assert terminal.running.wait() == 0
    assert "\x1b[36m→ hostile()\x1b[0m" in seen
    assert "\\x1b[2J[red]red[/]" in seen
    assert "\x1b[2J" not in seen
    assert "\x07" not in seen
    assert seen.count("[bold]done[/bold]") == 1


def test_no_color_is_respected(tmp_path: Path) -> None:
    file = tools_file(tmp_path)
    with at_a_terminal("run", "q", "-m", f"{file}:adds", "-t", f"{file}:add", NO_COLOR="1") as terminal:
        seen = terminal.to_the_end()
        assert terminal.running.wait() == 0
    assert "→ add(a=1, b=2)\n" in seen
    assert "\x1b[3" not in seen


def test_chat_goes_on_after_ctrl_c_and_leaves_at_the_second_one_at_the_prompt(slow: Path) -> None:
    with at_a_terminal("chat", "-m", f"{slow}:stuck_once") as terminal:
        terminal.until("> ")
        terminal.type("First?\n")
        terminal.until("writing")
        terminal.interrupt()
        assert "stopped" in terminal.until("> ")
        terminal.type("Second?\n")
        assert "Second answer." in terminal.until("guarantee")
        terminal.until("> ")
        terminal.interrupt()
        terminal.until("> ")
        terminal.interrupt()
        assert "Traceback" not in terminal.to_the_end()
        assert terminal.running.wait() == 0


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(made := tmp_path / "pipe")
    return made


def test_a_ctrl_c_just_before_a_line_is_read_is_not_lost(slow: Path, pipe: Path) -> None:
    with at_a_terminal("chat", "-m", f"{slow}:stuck_once", PIPE=str(pipe)) as terminal, pipe.open("w") as interrupt:
        for _ in range(2):
            terminal.until("> ")
            print(end="!", file=interrupt, flush=True)
        assert "Traceback" not in terminal.to_the_end()
        assert terminal.running.wait() == 0


def test_a_ctrl_c_just_before_the_loop_waits_is_not_lost(slow: Path, pipe: Path) -> None:
    with at_a_terminal("run", "q", "-m", f"{slow}:stuck", PIPE=str(pipe)) as terminal, pipe.open("w") as interrupt:
        terminal.until("writing")
        print(end="!", file=interrupt, flush=True)
        assert "generation stopped" in terminal.to_the_end()
        assert terminal.running.wait() == 130


def test_ctrl_d_leaves_the_chat(tmp_path: Path) -> None:
    with at_a_terminal("chat", "-m", f"{tools_file(tmp_path)}:greets") as terminal:
        terminal.until("> ")
        terminal.type("Hi\n")
        assert "Hello." in terminal.until("guarantee")
        terminal.until("> ")
        terminal.type("\x04")
        terminal.to_the_end()
        assert terminal.running.wait() == 0
