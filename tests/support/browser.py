"""A headless Chromium that a test drives through its debugging protocol, where one is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page. A profile in a folder keeps what pages store, also when the browser is started again.

    Args:
        profile: Folder for the profile.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        asked, self._write = os.pipe()
        self._read, told = os.pipe()

        def descriptors() -> None:
            os.dup2(asked, 3)
            os.dup2(told, 4)

        self._process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=descriptors, pass_fds=(3, 4),
        )  # fmt: skip
        os.close(asked)
        os.close(told)
        self._profile = profile
        self._number, self._rest = 0, b""
        self._session: str | None = None
        pages = [each for each in self._ask("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self._ask("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self._ask("Browser.close")
        self._process.wait(60)
        os.close(self._write)
        os.close(self._read)

    def open(self, address: str) -> None:
        """Go to an address, and wait until it is there."""
        self._ask("Page.enable")
        self._ask("Page.navigate", url=address)
        self.run(
            "new Promise(done => document.readyState === 'complete' ? done(1) "
            ": addEventListener('load', () => done(1)))"
        )

    def leave(self) -> None:
        """Go to an empty page, and wait until what the one that is left has stored lies on the disk.

        A browser that is told to end may do so before that: what a page stores is written now and then.
        """
        kept = self.run("Object.values(localStorage).join()")[-60:].encode()
        self.open("about:blank")
        stored = self._profile / "Default" / "Local Storage" / "leveldb"
        until = time.monotonic() + 60
        while not any(kept in file.read_bytes() for file in stored.glob("*.log")):
            assert time.monotonic() < until, "what the page stored was not written"
            time.sleep(0.05)

    def phone(self, width: int, height: int, ratio: float) -> None:
        """Have the page shown as on a phone."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=ratio,
            mobile=True,
        )

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        done = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView()")
        element = f"document.querySelector({selector!r})"
        box = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key)

    def _ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                more = os.read(self._read, 1 << 16)
                assert more, "the browser ended"
                self._rest += more
            answer, _, self._rest = self._rest.partition(b"\0")
            found = json.loads(answer)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
