"""Chromium without a window, driven over its debugging pipe: what a page really does when it is opened."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

__all__ = ["Browser", "Page", "chromium"]


def chromium() -> str:
    """Chromium's path. Without it the tests that need it are skipped, but not in CI."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is not None:
        return found
    why = "no chromium is installed: `apt-get install chromium` on Debian, or `brew install --cask chromium` on macOS"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Browser:
    """A browser with a profile of its own.

    Args:
        profile: An empty folder.
    """

    def __init__(self, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        # The browser reads descriptor 3 and writes to 4.
        script = 'exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>/dev/null'
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", script, chromium(), *options], stdin=to_read, stdout=to_write, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._count = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.ask("Browser.close")
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its result; events on the way are kept."""
        self._count += 1
        asked: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            asked["sessionId"] = session
        rest = memoryview(json.dumps(asked).encode() + b"\0")
        while rest:
            rest = rest[os.write(self._to, rest) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, method: str, session: str) -> dict[str, Any]:
        """The first event of that name, an earlier one too."""
        for event in self.events:
            if event.get("method") == method and event.get("sessionId") == session:
                return event
        while True:
            event = self._next()
            self.events.append(event)
            if event.get("method") == method and event.get("sessionId") == session:
                return event

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._from, 1 << 20)
            assert more, "the browser ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        value: dict[str, Any] = json.loads(message)
        return value

    @contextmanager
    def page(self, file: Path, *, width: int = 1100, dark: bool = False, media: str = "screen") -> Generator[Page]:
        """Open a file, and wait until it is loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session: str = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Audits"):
            self.ask(f"{domain}.enable", session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", session, media=media, features=[scheme])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", session, **size)
        self.events.clear()
        self.ask("Page.navigate", session, url=file.as_uri())
        self.wait_for("Page.loadEventFired", session)
        yield Page(self, session)
        self.ask("Target.closeTarget", targetId=target)


class Page:
    """An opened page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to, evaluated by the debugger: no policy holds it up."""
        result = self._browser.ask("Runtime.evaluate", self._session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """Parameters of the events of these names since the page was opened."""
        self.value("1")  # whatever was under way is told by now
        ours = (e for e in self._browser.events if e.get("sessionId") == self._session and e.get("method") in methods)
        return [event["params"] for event in ours]

    @property
    def fetched(self) -> list[str]:
        """Every address that was asked for."""
        return [request["request"]["url"] for request in self.told("Network.requestWillBeSent")]

    def press(self, key: str, code: int) -> None:
        """Press a key, by its name and its code on Windows, which the protocol wants."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._browser.ask(
                "Input.dispatchKeyEvent",
                self._session,
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **text,
            )

    def picture(self, file: Path) -> None:
        """Save a picture of the whole page."""
        size = self._browser.ask("Page.getLayoutMetrics", self._session)["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000), "scale": 1}
        shot = self._browser.ask(
            "Page.captureScreenshot", self._session, format="png", captureBeyondViewport=True, clip=clip
        )
        file.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as printed."""
        return base64.b64decode(self._browser.ask("Page.printToPDF", self._session)["data"])
