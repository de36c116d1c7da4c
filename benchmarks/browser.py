"""A page in headless Chromium, driven through its debugging pipe with the standard library alone.

The pipe is a pair of file descriptors, 3 to the browser and 4 from it, with JSON messages that end in a zero byte
(https://chromedevtools.github.io/devtools-protocol/). POSIX only.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")


def chromium() -> str | None:
    """Path of the browser, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page; a context manager that starts the browser and ends it.

    Attributes:
        requests: Addresses that were asked for, the page itself included; data: addresses are none.
        messages: Messages of the console, and exceptions that nobody caught.
    """

    def __init__(self, address: str, width: int = 1000, height: int = 800):
        self.address, self.size = address, (width, height)
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.numbers, self.session = itertools.count(1), None

    def __enter__(self) -> Page:
        binary = chromium()
        assert binary is not None, f"none of {', '.join(NAMES)} is installed"
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        pairs = [*os.pipe(), *os.pipe()]  # these take 3 and 4 if they are free, so that the copies do not hit another's
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (pairs[0], pairs[3])]

        def numbered() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self.process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={self.profile.name}", f"--window-size={self.size[0]},{self.size[1]}"],
            pass_fds=(3, 4),
            preexec_fn=numbered,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (pairs[0], pairs[3], *theirs):
            os.close(fd)
        self.to, self.back = os.fdopen(pairs[1], "wb"), os.fdopen(pairs[2], "rb")
        self.rest = b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Network", "Runtime", "Log", "Page"):
            self.call(f"{part}.enable")
        self.call("Page.navigate", url=self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.to.close()
        self.back.close()
        self.profile.cleanup()

    def call(self, method: str, **words: Any) -> dict[str, Any]:
        """Result of one command; events that come first are noted."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": words}
        if self.session is not None:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        while True:
            found = json.loads(self._next())
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']['message']}")
                return found["result"]
            self._note(found.get("method", ""), found.get("params", {}))

    def _next(self) -> bytes:
        while b"\0" not in self.rest:
            more = os.read(self.back.fileno(), 2**16)
            if not more:
                raise RuntimeError("the browser has ended")
            self.rest += more
        first, _, self.rest = self.rest.partition(b"\0")
        return first

    def _note(self, event: str, words: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent" and not words["request"]["url"].startswith("data:"):
            self.requests.append(words["request"]["url"])
        elif event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.messages.append(json.dumps(words)[:1000])

    def evaluate(self, script: str) -> Any:
        """Value of a script, or of its promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:1000])
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 300) -> None:
        """Return once the condition holds.

        Raises:
            TimeoutError: If it does not within the seconds.
        """
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.address}: {condition} does not hold after {seconds} s")
            time.sleep(0.05)
