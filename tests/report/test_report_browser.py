"""The page in a real browser, opened as a file; skipped where no Chromium is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--dump-dom",
]  # fmt: skip
# Asked inside a frame of the expected width: a headless window may refuse to be that narrow.
PROBE = r"""<!doctype html><iframe id=f style="width:%dpx;height:900px;border:0"></iframe>
<pre id=seen></pre><script>
const frame = document.getElementById("f");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(d => d.open = true);
  const images = [...page.images];
  document.getElementById("seen").textContent = JSON.stringify({
    width: root.clientWidth, scroll: root.scrollWidth, images: images.length,
    broken: images.filter(i => !i.naturalWidth).length,
    unnamed: images.filter(i => !i.alt).length,
    wide: [...page.querySelectorAll("main p, main h2, main figure, header *")]
      .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1).length,
    faint: faint(page, frame.contentWindow),
    unreachable: [...page.querySelectorAll(".scroll, pre, summary")]
      .filter(e => e.tabIndex < 0).length,
    unlabelled: page.querySelectorAll("svg:not([aria-label]), .scroll:not([aria-label])").length,
    dark: rgb(frame.contentWindow.getComputedStyle(page.body).backgroundColor)[0] < 128,
  });
};
function rgb(text) { return text.match(/[\d.]+/g).map(Number); }
function luminance(colour) {
  const [r, g, b] = colour.slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
}
function behind(element, view) {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(view.getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
}
function faint(page, view) {
  const found = new Set();
  for (const e of page.querySelectorAll("body *:not(script):not(style)")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    // Text on a bar stands on the bar's own colour, which the page does not know as background.
    if (!own || e.classList.contains("on")) continue;
    const style = view.getComputedStyle(e);
    const ink = rgb(e instanceof view.SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(behind(e, view))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.add(e.tagName + "." + e.getAttribute("class"));
  }
  return [...found];
}
frame.srcdoc = %s;
</script>"""


def look(page: str, width: int, folder: Path) -> dict[str, Any]:
    """What a browser measures on the page at this width, and its console errors."""
    probe = folder / "probe.html"
    probe.write_text(PROBE % (width, json.dumps(page).replace("</", "<\\/")), encoding="utf-8")
    command = [
        str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1500,1000",
        "--virtual-time-budget=4000", probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    seen = re.search(r'<pre id="seen">(\{.*?\})</pre>', done.stdout)
    assert seen, done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(seen[1]), "errors": errors}


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_the_page_fits_and_every_picture_is_there(
    demo_report: SimpleNamespace, tmp_path: Path, width: int
) -> None:
    """F79: no console error, nothing wider than the screen unfolded; 3 samples of 4 runs, and
    the images on which one side of a pair wins."""
    seen = look(demo_report.html, width, tmp_path)
    assert seen["errors"] == []
    assert seen["width"] <= width
    assert seen["scroll"] <= seen["width"]
    assert seen["images"] == demo_report.html.count("<img ") >= 12 + 2
    assert (seen["broken"], seen["unnamed"], seen["wide"]) == (0, 0, 0)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_and_the_keyboard_reaches_what_scrolls(
    demo_report: SimpleNamespace, tmp_path: Path, scheme: str
) -> None:
    """WCAG 2.1 AA, 1.4.3: 4.5 to 1 between words and what is behind them; 2.1.1: what scrolls or
    folds can be focused; 1.1.1: every drawing has a name."""
    page = demo_report.html
    if scheme == "dark":
        page = page.replace("(prefers-color-scheme: dark)", "all and (min-width: 1px)")
    seen = look(page, 1280, tmp_path)
    assert seen["dark"] is (scheme == "dark")
    assert seen["faint"] == []
    assert (seen["unreachable"], seen["unlabelled"]) == (0, 0)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_the_page_prints(demo_report: SimpleNamespace, tmp_path: Path) -> None:
    """As PDF, in fewer pages than a book; on paper nothing is dark."""
    pdf = tmp_path / "report.pdf"
    command = [
        str(BROWSER), *FLAGS[:-1], f"--user-data-dir={tmp_path / 'profile'}",
        f"--print-to-pdf={pdf}", demo_report.paths.html.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 2 <= pages <= 25
