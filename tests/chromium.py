"""Chromium without a window, driven through the pipe of its DevTools protocol: pages are opened, looked at
and typed into, and what they ask for is noted. No library is needed for it."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from time import monotonic, sleep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The browser reads commands from file descriptor 3 and answers on 4.
PLUG = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Enter": 13, "Delete": 46,
    "Escape": 27,
}


class Browser:
    """One page in a Chromium of its own; `folder` is for its profile, `flags` are further ones of the command.
    Close it in the end."""

    def __init__(self, folder, width=1280, height=900, flags=()):
        import fcntl

        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]
        os.close(commands), os.close(answers)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLUG, *map(str, ends), CHROMIUM, "--headless", "--no-sandbox",
             "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run", f"--user-data-dir={folder}", f"--window-size={width},{height}", *flags,
             "--remote-debugging-pipe", "about:blank"],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        self.buffer, self.count, self.asked, self.errors, self.session = b"", 0, [], [], None
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method, seconds=120, **params):
        """The answer to one command."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        end = monotonic() + seconds
        while True:
            found = self._next(end)
            if found.get("id") == self.count:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']['message']}")
                return found["result"]
            if found.get("method") == "Network.requestWillBeSent":
                self.asked.append(found["params"]["request"]["url"])
            if found.get("method") == "Runtime.exceptionThrown":
                details = found["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))

    def _next(self, end):
        while b"\0" not in self.buffer:
            if not select.select([self.answers], [], [], max(0, end - monotonic()))[0]:
                raise TimeoutError("Chromium did not answer")
            part = os.read(self.answers, 1 << 20)
            if not part:
                raise ConnectionError("Chromium has ended")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, address):
        """Open an address, and wait until it is there."""
        self.asked.clear()
        self.send("Page.navigate", url=str(address))
        self.until("document.readyState === 'complete'")

    def run(self, script):
        """The value of a JavaScript expression, a promise's too, as JSON has it."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", script))
        return found["result"].get("value")

    def until(self, script, seconds=60):
        """Wait until a JavaScript expression is true."""
        end = monotonic() + seconds
        while not self.run(script):
            if monotonic() > end:
                raise TimeoutError(f"never true: {script}")
            sleep(0.05)

    def press(self, key, shift=False):
        """Press a key and let it go: a name of KEYS, or a character."""
        code = KEYS.get(key, ord(key[0]))
        what = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        if len(key) == 1:
            what["text"] = key
        if key == "Enter":
            what["text"] = "\r"
        self.send("Input.dispatchKeyEvent", type="keyDown", **what)
        self.send("Input.dispatchKeyEvent", type="keyUp", **what)

    def drag(self, *points):
        """Press the mouse at the first of the points (x, y), move over the others, and let go."""
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=points[0][0], y=points[0][1],
                  button="left", buttons=1, clickCount=1)
        for x, y in points[1:]:
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=points[-1][0], y=points[-1][1],
                  button="left", clickCount=1)

    def look(self, width, height, dark=False, mobile=False, scale=1):
        """The window's size and whether it asks for dark pages."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=mobile)
        self.send("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def picture(self, file):
        """Write a picture of the whole page to a PNG file."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(file, "wb") as out:
            out.write(base64.b64decode(shot["data"]))

    def close(self):
        """End the browser."""
        try:
            self.session = None
            self.send("Browser.close", seconds=10)
        except (OSError, TimeoutError, ConnectionError):
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.commands), os.close(self.answers)
