"""A headless Chromium, driven by its DevTools protocol over a pipe: no driver, no network.

with Chromium() as browser:
    page = browser.page(width=1280, height=900)
    page.go("http://127.0.0.1:8000/")
    page.until("document.title !== ''")
"""

import base64
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it shows our own pages only, and containers run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes answers to 4.
_SHIM = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
    " os.execv(sys.argv[3], sys.argv[3:])"
)
_KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


class Chromium:
    """A browser with a profile of its own, which goes when it is left."""

    def __enter__(self) -> "Chromium":
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Well away from 3 and 4, which the shim overwrites.
        theirs_in, ours_out = _high_pipe()
        ours_in, theirs_out = _high_pipe()
        assert PROGRAM is not None
        flags = (*_FLAGS, f"--user-data-dir={self._profile.name}")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SHIM, str(theirs_in), str(theirs_out), PROGRAM, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._to = os.fdopen(ours_out, "wb", buffering=0)
        self._from = os.fdopen(ours_in, "rb")
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ask("Browser.close")
        self._process.wait(10)
        self._reader.join(10)
        self._to.close()
        self._from.close()
        self._profile.cleanup()

    def page(self, *, width: int, height: int, dark: bool = False, touch: bool = False) -> "Page":
        """A new page, in a context of its own: nothing is remembered from others."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        where = {"targetId": target["targetId"], "flatten": True}
        session = self.ask("Target.attachToTarget", **where)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            page.ask(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        page.ask("Emulation.setDeviceMetricsOverride", **size)
        page.ask("Emulation.setTouchEmulationEnabled", enabled=touch)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        page.ask("Emulation.setEmulatedMedia", features=features)
        return page

    def ask(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """The answer to a command of the protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = queue.Queue()
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        self._to.write(json.dumps(message).encode() + b"\0")
        found = answer.get(timeout=20)
        del self._answers[number]
        assert "error" not in found, f"{method}: {found['error']}"
        return found["result"]

    def _read(self) -> None:
        kept = b""
        while part := os.read(self._from.fileno(), 1 << 20):
            *messages, kept = (kept + part).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]].put(message)
                elif (page := self._pages.get(message.get("sessionId"))) is not None:
                    page.note(message["method"], message["params"])


class Page:
    """One page, and what went on in it.

    Attributes:
      errors: what its console said as an error or a warning, and what it threw.
      requests: addresses it asked for.
    """

    def __init__(self, browser: Chromium, session: str, context: str):
        self._browser, self._session, self._context = browser, session, context
        self.errors: list[str] = []
        self.requests: list[str] = []

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command about this page."""
        return self._browser.ask(method, self._session, **params)

    def note(self, event: str, params: dict[str, Any]) -> None:
        """Keeps what has to be asserted later."""
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(json.dumps(params["args"]))

    def close(self) -> None:
        """Closes it; what it remembers is forgotten."""
        self._browser.ask("Target.disposeBrowserContext", browserContextId=self._context)

    def go(self, url: str) -> None:
        """Opens an address."""
        self.ask("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self.ask("Runtime.evaluate", **params)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 10) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, f"not within {seconds} s: {expression}"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """What the elements that fit a selector say."""
        return self.js(f"[...document.querySelectorAll({selector!r})].map(e => e.textContent)")

    def text(self, selector: str) -> str:
        """What the first element that fits a selector says."""
        return self.texts(selector)[0]

    def press(self, key: str, times: int = 1) -> None:
        """Presses a key, as a person does."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        code |= {"text": {"Enter": "\r", " ": " "}[key]} if key in ("Enter", " ") else {}
        for _ in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown", **code)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text: str) -> None:
        """Types a text where the focus is."""
        self.ask("Input.insertText", text=text)

    def at(self, selector: str) -> dict[str, float]:
        """The middle of an element, scrolled into view."""
        return self.js(
            f"(() => {{ const e = document.querySelector({selector!r});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const r = e.getBoundingClientRect();"
            " return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()"
        )

    def hover(self, selector: str) -> None:
        """Moves the mouse over an element."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", **self.at(selector))

    def click(self, selector: str) -> None:
        """Clicks an element."""
        where = self.at(selector) | {"button": "left", "clickCount": 1}
        self.ask("Input.dispatchMouseEvent", type="mousePressed", **where)
        self.ask("Input.dispatchMouseEvent", type="mouseReleased", **where)

    def tap(self, selector: str) -> None:
        """Touches an element."""
        point = self.at(selector)
        self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def choose_file(self, selector: str, path: Path) -> None:
        """Gives a file to a file field."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Keeps what is to be seen as a PNG file."""
        made = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))


def _high_pipe() -> tuple[int, int]:
    import fcntl

    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
