"""Scripts of tools/ in a made-up checkout, with next to no environment."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

from tests.support.children import ROOT

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}


def executable(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def bash(script: Path, *arguments: str, cwd: Path | None = None, **extra: str):
    return subprocess.run(
        ["bash", str(script), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**ENVIRONMENT, **extra},
        cwd=cwd or "/",
        timeout=60,
        check=False,
    )


def checkout(tmp_path: Path, *names: str) -> Path:
    """A folder with a blank, a # and an accent in its name that holds these files of ours."""
    root = tmp_path / "mes données #1" / "resdet"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root
