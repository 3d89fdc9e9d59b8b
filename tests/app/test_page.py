"""The page as it is used: the command in a process of its own, once by plain requests and once in a browser.

Gradio leaves event loops behind that are never closed, which would be errors of whatever test runs next.
"""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from ipaddress import ip_address
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LIMIT = 2**20
# The command, with every address that it connects to or looks up written to a file.
RECORDER = """
import socket, sys
log = open(sys.argv.pop(1), "a", buffering=1)
def recorded(function, position):
    def wrapper(*arguments, **options):
        log.write(repr(arguments[position]) + "\\n")
        return function(*arguments, **options)
    return wrapper
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, recorded(getattr(socket.socket, name), 1))
socket.getaddrinfo = recorded(socket.getaddrinfo, 0)
from blindsr.cli.main import main
main()
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="Gradio is not installed (pip install 'blindsr[app]')"
)


class Server:
    """A running `blindsr app`."""

    def __init__(self, folder, *options):
        self.log, self.temporary = folder / "connections", folder / "tmp"
        self.temporary.mkdir()
        command = [
            sys.executable,
            "-c",
            RECORDER,
            str(self.log),
            "app",
            "--no-browser",
            "--port",
            "0",
            "--threads",
            "1",
        ]
        environment = os.environ | {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--threads", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.address = self.process.stdout.readline().strip()

    def get(self, path="", **options):
        """The status and the content of an answer."""
        request = urllib.request.Request(self.address.partition("?")[0] + path, **options)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def files(self):
        """What lies in its private folders, but for what Gradio makes at its start."""
        return [p for p in self.temporary.rglob("*") if p.is_file() and p.stat().st_size]

    def end(self):
        """End it as a service manager does; its standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return errors

    def connections(self):
        """The hosts that it connected to or looked up."""
        values = [eval(line) for line in self.log.read_text().splitlines()]  # tuples and texts of our own
        return {value[0] if isinstance(value, tuple) else value for value in values}


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*options):
        servers.append(Server(tmp_path, *options))
        return servers[-1]

    yield start
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()
        server.process.wait()
        server.process.stdout.close()
        server.process.stderr.close()


def is_here(host):
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def form(name, content):
    """The body and the headers of an upload."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return {
        "data": head.encode() + content + b"\r\n--x--\r\n",
        "headers": {"Content-Type": "multipart/form-data; boundary=x"},
    }


def test_it_serves_a_page_that_asks_nobody_and_leaves_nothing(serve):
    server = serve("--max-upload", "1MB")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.address)
    status, page = server.get()
    assert status == 200
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']([^\"']+)", page.decode())
    assert loaded
    assert [a for a in loaded if "//" in a and not a.startswith(server.address)] == []
    assert b"fonts.g" not in server.get("theme.css")[1]
    config = json.loads(server.get("config")[1])
    assert config["analytics_enabled"] is False
    assert server.get("gradio_api/file=/etc/hostname")[0] == 404
    assert server.get("gradio_api/upload", **form("a.png", bytes(LIMIT + 1)))[0] == 413
    assert server.get("gradio_api/upload", **form("a.png", b"some bytes"))[0] == 200
    assert len(server.files()) == 1
    (private,) = server.temporary.iterdir()
    assert private.stat().st_mode & 0o077 == 0
    assert "Traceback" not in server.end()
    assert server.process.returncode == 0
    assert list(server.temporary.iterdir()) == []
    assert "127.0.0.1" in server.connections()  # its own, looked up to listen on
    assert {host for host in server.connections() if not is_here(host)} == set()


@pytest.fixture
def browser():
    """A headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


def drop(page, path, target):
    """Drop a file or a folder of the file system on a part of the page."""
    box = target.bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    browser = page.context.new_cdp_session(page)
    for step in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        browser.send("Input.dispatchDragEvent", {"type": step, **place, "data": data})


def test_a_newcomer_upscales_photographs_in_a_browser(serve, browser, tmp_path, pixels):
    server = serve("--max-upload", "1MB")
    (tmp_path / "folder" / "summer").mkdir(parents=True)
    Image.fromarray(np.tile(pixels, (2, 2, 1))).save(tmp_path / "folder" / "summer" / "photo & <b>.png")
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    (tmp_path / "folder" / ".hidden").write_text("no image")
    (tmp_path / "large.png").write_bytes(bytes(LIMIT + 1))
    page, requests, problems = browser.new_page(viewport={"width": 390, "height": 844}), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.address)
    photographs = page.locator("input[type=file]").first

    # What is no image in a folder, and a file that is too large: a line each.
    drop(page, tmp_path / "folder", page.locator("#bs-upload"))
    page.get_by_text("notes.txt: a text file is not read").wait_for()
    assert page.locator("#bs-problems li").count() == 1
    page.get_by_text("to do: photo & <b>.png (80×96 px)").wait_for()
    photographs.set_input_files(tmp_path / "large.png")
    page.get_by_text("exceed the maximum allowed size").wait_for()

    page.get_by_label("fast: one pass").check()
    page.get_by_label("×3").check()
    page.get_by_text("(240×288 px)").wait_for()
    page.get_by_label("Gaussian").check()
    page.get_by_label("σ of the Gaussian").fill("-1")
    page.get_by_text("must be above 0").wait_for()
    assert page.get_by_role("button", name="Upscale", exact=True).is_disabled()
    page.get_by_label("estimated from").check()
    page.locator("#bs-run:not([disabled])").click()
    page.locator("#bs-comparison .bs-compare").wait_for(timeout=60_000)

    # At 100 %, with a divider for the keyboard, everything in words, and nothing wider than the screen.
    assert page.locator("#bs-comparison .bs-right").evaluate("image => [image.naturalWidth, image.width]") == [240, 240]
    divider = page.get_by_label("Divider: bicubic interpolation on the left, result on the right")
    divider.focus()
    page.keyboard.press("Home")
    assert page.locator("#bs-comparison .bs-right").evaluate("e => e.style.clipPath").endswith("0px)")
    assert "consistency" in page.locator("#bs-facts").inner_text()
    page.get_by_alt_text("Plot of the kernel").wait_for()
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = """() => [...document.querySelectorAll('input, button, select, textarea, [tabindex="0"], img')]
      .filter(e => e.checkVisibility() && !(e.getAttribute('aria-label') || e.alt || e.labels?.length || e.innerText))
      .map(e => e.outerHTML.slice(0, 200))"""
    assert page.evaluate(unnamed) == []

    width = page.get_by_label("range slider for Width of the kernel")
    width.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Kernel with the factor 1.05").wait_for()
    page.locator("#bs-again:not([disabled])").click()
    page.locator("#bs-facts").get_by_text("its width changed by a factor of 1.05").wait_for()
    with page.expect_download() as expected:
        page.get_by_role("link", name="Download the result").click()
    assert expected.value.suggested_filename == "photo & _b__blindsr_x3.png"  # which Chromium makes of it
    with Image.open(expected.value.path()) as result:
        assert result.size == (240, 288)

    assert {urlsplit(url).netloc for url in requests if not url.startswith(("data:", "blob:"))} == {
        urlsplit(server.address).netloc
    }
    assert problems == []
    assert server.files() != []
    page.close()
    for _ in range(100):
        if not [path for path in server.files() if "session-" in str(path)]:
            break
        browser.new_context().close()  # takes some time
    assert [path for path in server.files() if "session-" in str(path)] == []
    assert "Traceback" not in server.end()
    assert list(server.temporary.iterdir()) == []
    assert {host for host in server.connections() if not is_here(host)} == set()
