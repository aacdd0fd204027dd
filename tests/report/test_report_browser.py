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
# Asked inside a frame of the wanted width: a headless window may refuse to be that narrow.
PROBE = """<!doctype html><iframe id=f style="width:%dpx;height:900px;border:0"></iframe>
<pre id=said></pre><script>
const frame = document.getElementById("f");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(d => d.open = true);
  const images = [...page.images];
  document.getElementById("said").textContent = JSON.stringify({
    width: root.clientWidth, scroll: root.scrollWidth, images: images.length,
    broken: images.filter(i => !i.naturalWidth).length,
    unnamed: images.filter(i => !i.alt).length,
    wide: [...page.querySelectorAll("main p, main h2, main figure, header *")]
      .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1).length,
  });
};
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
    said = re.search(r'<pre id="said">(\{.*?\})</pre>', done.stdout)
    assert said, done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(said[1]), "errors": errors}


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_every_picture_is_there(
    demo_report: SimpleNamespace, tmp_path: Path, width: int
) -> None:
    """F79: no console error, nothing wider than the screen unfolded; 3 samples of 4 runs."""
    said = look(demo_report.html, width, tmp_path)
    assert said["errors"] == []
    assert said["width"] <= width
    assert said["scroll"] <= said["width"]
    assert (said["images"], said["broken"], said["unnamed"], said["wide"]) == (12, 0, 0, 0)
