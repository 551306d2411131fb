"""A real Chromium that looks at a page: what it measures, and pictures."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

MEASURE = """
const measured = {};
const pages = [...document.querySelectorAll("iframe")];
Promise.all(pages.map(page => new Promise(done => page.addEventListener("load", done)))).then(() => {
  for (const page of pages) {
    const root = page.contentDocument.documentElement;
    const wide = [...root.querySelectorAll("body *")].filter(
      each => each.getBoundingClientRect().right > root.clientWidth + 0.5 && !each.closest("thead")
    );
    measured[page.width] = {
      overflow: root.scrollWidth - root.clientWidth,
      beyond: wide.map(each => each.tagName + " " + each.textContent.slice(0, 40)),
      text: page.contentDocument.body.innerText,
      background: page.contentWindow.getComputedStyle(page.contentDocument.body).backgroundColor,
    };
  }
  document.title = "measured";
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = JSON.stringify(measured);
  document.body.replaceChildren(answer);
});
"""


def run(*words: str | Path) -> str:
    assert CHROMIUM
    argv = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=10000",
    ]
    done = subprocess.run([*argv, *words], capture_output=True, text=True, check=True, timeout=600)
    return done.stdout


def measure(page: str, widths: tuple[int, ...], folder: Path, *, dark: bool = False) -> dict[int, dict[str, Any]]:
    """Width in px -> how many px the page is wider, which elements are beyond it, what is read, and the background."""
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{html.escape(page)}"></iframe>' for width in widths)
    file = folder / "measure.html"
    file.write_text(f"<!doctype html><body>{frames}<script>{MEASURE}</script>")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    found = re.search('<pre id="answer">(.*?)</pre>', run(*scheme, "--dump-dom", file.as_uri()), re.DOTALL)
    assert found
    return {int(width): each for width, each in json.loads(html.unescape(found[1])).items()}


def picture(page: str, width: int, height: int, target: Path, *, dark: bool = False) -> None:
    """A screenshot, for people."""
    file = target.with_suffix(".html")
    file.write_text(page)
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    run(*scheme, f"--window-size={width},{height}", f"--screenshot={target}", file.as_uri())
