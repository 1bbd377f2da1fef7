"""A real browser for tests: headless Chromium of the system, driven through its own debugging pipe, off the network."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE_S = 120


def find_browser() -> str | None:
    """The browser's path, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a running Chromium; `requests` are the addresses that it asked for, besides data inside the page."""

    def __init__(self, process: subprocess.Popen[bytes], send: int, receive: int) -> None:
        self._process, self._send, self._receive = process, send, receive
        self._number, self._waiting, self._session = 0, b"", ""
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a command of the DevTools protocol gives."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                return told["result"]

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Shows a file in a window of this size, phones as phones, and waits until all of it is there."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.requests.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        name = json.dumps(path.resolve().as_uri())
        self.wait(f"location.href === {name} && document.readyState === 'complete'")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression in the page is true."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never came true: {condition}"

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._receive], [], [], _PATIENCE_S)
            assert ready, "the browser does not answer"
            part = os.read(self._receive, 2**20)
            assert part, "the browser has gone"
            self._waiting += part
        text, _, self._waiting = self._waiting.partition(b"\0")
        told: dict[str, Any] = json.loads(text)
        if told.get("method") == "Network.requestWillBeSent":
            address = told["params"]["request"]["url"]
            self.requests += [address] if not address.startswith("data:") else []
        return told


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Starts a browser that can reach no host, and ends it."""
    name = find_browser()
    assert name is not None
    ours, theirs = os.pipe(), os.pipe()  # what it reads, what it writes; it wants them as files 3 and 4
    limit = "timeout --signal=KILL 280"  # one that hangs goes, and its pipes with it
    command = f'exec {limit} "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as home:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={home}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        options += ["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"]
        process = subprocess.Popen(
            ["bash", "-c", command, name, *options],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": home},
        )
        os.close(ours[0])
        os.close(theirs[1])
        try:
            yield Browser(process, ours[1], theirs[0])
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours[1])
            os.close(theirs[0])
