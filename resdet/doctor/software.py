"""The doctor on software: Python, resdet, torch, Detectron2 and what they need."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from resdet import __version__
from resdet.doctor.finding import FINE, REFUSE, SETUP, WARN, CheckResult, import_error, version_of

ROOT = Path(__file__).resolve().parents[2]

# Name of the distribution, module to import.
NEEDED = (
    ("numpy", "numpy"),
    ("Pillow", "PIL.Image"),
    ("PyYAML", "yaml"),
    ("safetensors", "safetensors"),
    ("pycocotools", "pycocotools.mask"),
    ("fvcore", "fvcore.common.config"),
)
# Name of the distribution, what it is for, the extra that installs it.
OPTIONAL = (
    ("scikit-learn", "the embedded data needs it", "demo"),
    ("scikit-image", "the embedded data needs it", "demo"),
    ("matplotlib", "the embedded data and the font of drawn labels need it", "report"),
    ("Jinja2", "reports need it", "report"),
    ("tensorboard", "only TensorBoard's event files need it", ""),
    ("timm", "only nets of timm need it", "timm"),
    ("onnx", "only export needs it", "onnx"),
)
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
UNSAFE_LOAD = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def check_python() -> Iterator[CheckResult]:
    version = platform.python_version()
    text = f"{version}, {sys.executable}, {platform.platform()}"
    if sys.version_info >= (3, 14):
        yield CheckResult("python", WARN, f"{text}; tested are 3.11 and 3.12")
    else:
        yield CheckResult("python", FINE, text)
    if sys.getfilesystemencoding().lower() != "utf-8":
        yield CheckResult(
            "locale",
            WARN,
            f"file names are read as {sys.getfilesystemencoding()}, not UTF-8",
            "export PYTHONUTF8=1",
        )


def check_resdet() -> Iterator[CheckResult]:
    commit = git_state(ROOT)
    yield CheckResult("resdet", FINE, f"{__version__}, {commit or 'not a git checkout'}, {ROOT}")


def git_state(root: Path) -> str | None:
    """Short commit, with "changed" where tracked files differ; None outside a checkout."""
    if not (root / ".git").exists():
        return None
    outputs = []
    for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *command],
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return "no commit yet" if command[0] == "rev-parse" else None
        outputs.append(done.stdout.strip())
    return f"commit {outputs[0]}" + (", changed" if outputs[1] else "")


def check_torch() -> Iterator[CheckResult]:
    for name, module in (("torch", "torch"), ("torchvision", "torchvision.ops")):
        version = version_of(name)
        error = import_error(module)
        if error is None:
            yield CheckResult(name, FINE, str(version))
        elif version is None:
            yield CheckResult(name, REFUSE, "not installed", SETUP)
        else:
            fix = f"{SETUP} (torchvision fits one version of torch only)"
            yield CheckResult(name, REFUSE, f"{version} does not import: {error}", fix)
    if os.environ.get(UNSAFE_LOAD):
        yield CheckResult(
            UNSAFE_LOAD,
            WARN,
            "is set: torch.load then runs code that a weight file brings. resdet ignores it",
            f"unset {UNSAFE_LOAD}",
        )


def check_needed() -> Iterator[CheckResult]:
    for name, module in NEEDED:
        version, error = version_of(name), import_error(module)
        if error is None:
            yield CheckResult(name, FINE, str(version))
        elif version is None:
            yield CheckResult(name, REFUSE, "not installed", SETUP)
        else:
            yield CheckResult(name, REFUSE, f"{version} does not import: {error}", SETUP)


def check_detectron2() -> Iterator[CheckResult]:
    if importlib.util.find_spec("detectron2") is None:
        fix = "python tools/install_detectron2.py"
        yield CheckResult("detectron2", REFUSE, "not installed", fix)
        return
    errors = [import_error(f"detectron2.{part}") for part in ("modeling", "engine", "evaluation")]
    module = sys.modules.get("detectron2")
    version = version_of("detectron2") or getattr(module, "__version__", None)
    if version is None or any(errors):
        reason = next((error for error in errors if error), "it is only half there")
        fix = "python tools/install_detectron2.py --force"
        yield CheckResult("detectron2", REFUSE, f"{version} does not import: {reason}", fix)
        return
    compiled = "yes" if import_error("detectron2._C") is None else "no (not needed)"
    yield CheckResult(
        "detectron2", FINE, f"{version}, {_release()}, compiled operators: {compiled}"
    )


def _release() -> str:
    """Which of the two Detectron2s this is: both call themselves 0.6."""
    from detectron2.config import get_cfg

    if "FLOAT32_PRECISION" not in get_cfg():
        return "the release 0.6 of 2021"
    return (
        "main, after the release 0.6 (tried with commit 02b5c4e of June 2026; it orders equal "
        "scores of proposals in another way, so detections may differ from 0.6's in these)"
    )


def check_opencv(installed: Callable[[str], str | None] = version_of) -> Iterator[CheckResult]:
    """F65: several distributions share the folder cv2, and each breaks the others."""
    versions = [f"{name} {version}" for name in OPENCV if (version := installed(name))]
    error = import_error("cv2")
    if len(versions) > 1:
        names = " ".join(item.split()[0] for item in versions)
        yield CheckResult(
            "opencv",
            REFUSE if error else WARN,
            f"{' and '.join(versions)} share the folder cv2",
            f"pip uninstall {names}; pip install opencv-python-headless",
        )
    elif error is None:
        yield CheckResult(
            "opencv", FINE, versions[0] if versions else "cv2, from no known distribution"
        )
    elif not versions:
        yield CheckResult(
            "opencv",
            WARN,
            "not installed: Detectron2's pictures do not work",
            "pip install opencv-python (or opencv-python-headless, without a display)",
        )
    else:
        fix = "pip uninstall opencv-python; pip install opencv-python-headless"
        yield CheckResult("opencv", WARN, f"{versions[0]} does not import: {error}", fix)


def check_optional() -> Iterator[CheckResult]:
    for name, purpose, extra in OPTIONAL:
        version = version_of(name)
        expected = (
            f"pip install -c constraints.txt -e '.[{extra}]'" if extra else f"pip install {name}"
        )
        if version:
            yield CheckResult(name, FINE, version)
        elif extra in ("demo", "report"):
            yield CheckResult(name, WARN, f"not installed, {purpose}", SETUP)
        else:
            yield CheckResult(name, FINE, f"not installed, {purpose}", expected)
