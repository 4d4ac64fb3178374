"""A real browser without a window and without a network, and what it says of a page."""

import html
import json
import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--enable-logging=stderr", "--v=0", "--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
_FRAME = """<!doctype html><title>frame</title><body style="margin:0">
<iframe id="f" src="{source}" style="border:0;width:{width}px;height:{height}px"></iframe>
<pre id="found"></pre>
<script>
document.getElementById("f").onload = (event) => {{
  const page = event.target.contentDocument, root = page.documentElement;
  const texts = [...page.querySelectorAll("svg text")].map((text) => text.getBoundingClientRect());
  const frames = [...page.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect());
  const pictures = [...page.images];
  document.getElementById("found").textContent = JSON.stringify({{
    width: root.clientWidth, needed: root.scrollWidth, height: root.scrollHeight,
    drawings: frames.filter((box) => box.width > 100 && box.height > 40).length, texts: texts.length,
    images: pictures.length, loaded: pictures.filter((image) => image.naturalWidth > 0).length,
    smallest: Math.min(...texts.map((box) => box.height).filter((height) => height > 0)),
    requests: page.defaultView.performance.getEntriesByType("resource").map((entry) => entry.name),
    heading: page.querySelector("h1").textContent,
    font: page.defaultView.getComputedStyle(page.body).fontSize,
  }});
}};
</script>"""


class Looked(NamedTuple):
    """What the browser measured."""

    layout: dict
    console: list


def browser():
    """Its command; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium or Chrome is installed: the page cannot be opened")


def look(page, scratch, width, height=900):
    """Open a page in a frame of a given width, so that no window's least width is in the way.

    Args:
        page: a file.
        scratch: a folder for what the browser writes.
        width: in CSS pixels.
        height: in CSS pixels.
    """
    frame = scratch / f"frame-{width}.html"
    frame.write_text(_FRAME.format(source=page.as_uri(), width=width, height=height))
    done = _run(scratch, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri())
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert found[1], done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Looked(json.loads(html.unescape(found[1])), console)


def picture(page, scratch, width, height):
    """A screenshot of a page in a window of a given size: the file."""
    frame, file = scratch / f"frame-{width}.html", scratch / f"page-{width}.png"
    frame.write_text(_FRAME.format(source=page.as_uri(), width=width, height=height))
    _run(scratch, f"--window-size={max(width, 500)},{height}", f"--screenshot={file}", frame.as_uri())
    return file


def _run(scratch, *words):
    return subprocess.run(
        [browser(), *_QUIET, f"--user-data-dir={scratch / 'profile'}", *words],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
