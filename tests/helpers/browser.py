"""Chromium, driven by chromedriver over the WebDriver protocol, which is JSON over HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"


class Browser:
    """A page in a window."""

    def __init__(self, address):
        self._address = address

    def call(self, method, path, content=None):
        """Sends a command of the WebDriver protocol; returns its value."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            self._address + path, body, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        """Opens an address."""
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Runs JavaScript in the page; returns what it returns."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, seconds=30):
        """Runs JavaScript until it returns something true; returns that."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} is never true"
            time.sleep(0.05)
        return value

    def complaints(self):
        """Returns the errors and warnings of the page."""
        return self.call("POST", "/se/log", {"type": "browser"})

    def screenshot(self, file):
        """Writes what the window shows as a PNG file."""
        file.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


@contextlib.contextmanager
def browser(width=1280, height=1000, dark=False):
    """Starts Chromium without a window; yields a `Browser`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    size = {"width": width, "height": height, "pixelRatio": 1, "mobile": False}
    options = {
        "binary": CHROMIUM,
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        "mobileEmulation": {"deviceMetrics": size},
    }
    if dark:
        options["args"].append("--blink-settings=preferredColorScheme=0")
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    with subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            plain = Browser(f"http://127.0.0.1:{port}")
            for _ in range(200):
                with contextlib.suppress(OSError):
                    plain.call("GET", "/status")
                    break
                time.sleep(0.05)
            found = plain.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            session = f"/session/{found['sessionId']}"
            try:
                yield Browser(f"http://127.0.0.1:{port}{session}")
            finally:
                plain.call("DELETE", session)
        finally:
            driver.terminate()
