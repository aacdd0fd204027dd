"""Installs Detectron2 0.6 from the package index alone: no compiler, no GitHub, no CUDA.

Detectron2 has no project on the index. Its Python part is there, under another name, as the
source archive of tag v0.6 from 2021. This script

    1. stops here if a Detectron2 that works is installed already: a user's own build wins
    2. fetches the archive with a private pip and checks its sha256 before anything in it runs
    3. applies the edits listed in `EDITS`, which let it run on today's torch, numpy and Pillow
    4. packs the result as a wheel (`detectron2`, version `0.6+py`) and installs it

The wheel holds `detectron2/__init__.py` last, so a half-copied installation does not count as
working and is made anew by the next call.

    python tools/install_detectron2.py [--python PYTHON] [--archive FILE] [--force]

Needs only the standard library. torch must be installed already: the archive's own set-up
script, which pip runs to learn its name, imports it.

Not for: compiled operators (rotated boxes, deformable convolution on a GPU). Who needs them
builds the official source instead, see README.md.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PROJECT = "pb1-detectron2"
PROJECT_VERSION = "0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
VERSION = "0.6+py"
# pip 26.3 refuses the archive for an extra that names a direct URL; 25.3 reads it. The
# archive's set-up script wants setuptools, which a new Python 3.12 environment lacks.
PRIVATE_TOOLS = ("pip==25.3", "setuptools>=77,<82", "wheel")

# Detectron2's own projects that its wheel installs below detectron2.projects.
PROJECTS = {
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}
COUNTED_FILES = {".yaml": 92, ".py": 198}

# What upstream asks for, without black, future and pydot (needed by nothing we keep), and
# with the iopath of today.
REQUIREMENTS = (
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
)

# Imports that tell a Detectron2 that works from one that is broken or half there. model_zoo
# is left out: with a current setuptools it fails in official builds that are fine otherwise.
PROBE = """
import detectron2
assert getattr(detectron2, "__version__", None), "detectron2 holds no __init__.py"
import detectron2.data, detectron2.engine, detectron2.evaluation, detectron2.modeling
print(detectron2.__version__, detectron2.__file__)
"""


class Edit(NamedTuple):
    """One replacement: `old` stands exactly `times` times in `file`, else nothing is done."""

    file: str
    old: str
    new: str
    times: int
    reason: str


NO_C = "the compiled operators detectron2._C are not there"
NO_ALIAS = "numpy 1.24 removed this alias of a builtin type"
NO_CAFFE2 = "caffe2 is gone from torch; tracing and operation counts need none of it"
NO_PKG_RESOURCES = "setuptools 82 removed pkg_resources"

IMPORT_C = "from detectron2 import _C\n"
GUARDED_IMPORT_C = """try:
    from detectron2 import _C
except ImportError:
    from detectron2._no_operators import _C
"""

EDITS = (
    Edit(
        "detectron2/model_zoo/model_zoo.py",
        "import pkg_resources\n",
        "",
        1,
        NO_PKG_RESOURCES,
    ),
    Edit(
        "detectron2/model_zoo/model_zoo.py",
        "pkg_resources.resource_filename(\n"
        '        "detectron2.model_zoo", os.path.join("configs", config_path)\n'
        "    )",
        'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
        1,
        NO_PKG_RESOURCES,
    ),
    Edit("detectron2/layers/deform_conv.py", IMPORT_C, GUARDED_IMPORT_C, 1, NO_C),
    Edit("detectron2/layers/roi_align_rotated.py", IMPORT_C, GUARDED_IMPORT_C, 1, NO_C),
    Edit("detectron2/layers/rotated_boxes.py", IMPORT_C, GUARDED_IMPORT_C, 1, NO_C),
    Edit(
        "detectron2/evaluation/coco_evaluation.py",
        "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n",
        "try:\n"
        "    from detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
        "except ImportError:\n"
        "    COCOeval_opt = COCOeval\n",
        1,
        NO_C,
    ),
    Edit(
        "detectron2/evaluation/coco_evaluation.py",
        "        self._use_fast_impl = use_fast_impl\n",
        "        if use_fast_impl and COCOeval_opt is COCOeval:\n"
        '            self._logger.info("Fast COCO eval is not built: pycocotools is used.")\n'
        "            use_fast_impl = False\n"
        "        self._use_fast_impl = use_fast_impl\n",
        1,
        NO_C,
    ),
    Edit(
        "detectron2/data/transforms/transform.py",
        "interp=Image.LINEAR,",
        "interp=Image.BILINEAR,",
        1,
        "Pillow 10 removed LINEAR, an alias of BILINEAR",
    ),
    Edit("detectron2/data/build.py", "dtype=np.int\n", "dtype=int\n", 1, NO_ALIAS),
    Edit("detectron2/data/build.py", "dtype=np.int)", "dtype=int)", 1, NO_ALIAS),
    Edit("detectron2/data/datasets/pascal_voc.py", "dtype=np.str)", "dtype=str)", 1, NO_ALIAS),
    Edit(
        "detectron2/evaluation/pascal_voc_evaluation.py",
        ".astype(np.bool)",
        ".astype(bool)",
        2,
        NO_ALIAS,
    ),
    Edit("detectron2/evaluation/sem_seg_evaluation.py", "dtype=np.int)", "dtype=int)", 2, NO_ALIAS),
    Edit(
        "detectron2/evaluation/sem_seg_evaluation.py",
        "dtype=np.float)",
        "dtype=float)",
        2,
        NO_ALIAS,
    ),
    Edit(
        "detectron2/evaluation/sem_seg_evaluation.py",
        ".astype(np.float)",
        ".astype(float)",
        3,
        NO_ALIAS,
    ),
    Edit("detectron2/structures/masks.py", ".astype(np.bool)", ".astype(bool)", 2, NO_ALIAS),
    Edit("detectron2/structures/masks.py", "dtype=np.bool)", "dtype=bool)", 1, NO_ALIAS),
    Edit("detectron2/utils/visualizer.py", ".astype(np.bool)", ".astype(bool)", 3, NO_ALIAS),
    Edit("detectron2/utils/video_visualizer.py", "dtype=np.bool)", "dtype=bool)", 1, NO_ALIAS),
    Edit(
        "detectron2/export/__init__.py",
        "from .api import *\n",
        "try:\n"
        "    from .api import *\n"
        "except ModuleNotFoundError as error:\n"
        '    if (error.name or "").split(".")[0] not in ("caffe2", "onnx"):\n'
        "        raise\n",
        1,
        NO_CAFFE2,
    ),
    Edit(
        "detectron2/utils/analysis.py",
        "from detectron2.export import TracingAdapter\n",
        "from detectron2.export.flatten import TracingAdapter\n",
        1,
        NO_CAFFE2,
    ),
)

ADDED_FILES = {
    "detectron2/_no_operators.py": '''\
# Added for resdet by tools/install_detectron2.py; not part of the official Detectron2.
"""Stands in for detectron2._C where the compiled operators were not built."""


class NoOperators:
    """Says which operator is missing, when it is called and not before."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"detectron2._C.{name} is a compiled operator, and this Detectron2 (0.6+py) has none. "
            "Build Detectron2 from its official source to use it; it then replaces this one."
        )


_C = NoOperators()
''',
}


class InstallError(Exception):
    """What stops the installation, with what to do about it."""


# -- step 1: is one there? -----------------------------------------------------------------


def installed(python: str) -> str | None:
    """Version and place of the Detectron2 that works under `python`, None without one."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", PROBE],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd=tempfile.gettempdir(),
        check=False,
    )
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else None


# -- step 2: the archive -------------------------------------------------------------------


def pip_environment(**extra: str) -> dict[str, str]:
    """The environment without settings that would send files elsewhere than asked."""
    misleading = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV"}
    misleading |= {"PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_REQUIRE_HASHES", "PIP_CONSTRAINT"}
    kept = {name: value for name, value in os.environ.items() if name not in misleading}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **extra}


def call(command: list[str], *, what: str, cwd: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd=cwd,
        env=dict(env),
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise InstallError(f"{what} failed. The last lines of {' '.join(command[:4])} …:\n{tail}")


def fetch(python: str, folder: Path) -> Path:
    """The archive in `folder`, downloaded by a private pip under `python`."""
    private = folder / "private"
    call(
        [python, "-m", "pip", "install", "--quiet", "--target", str(private), *PRIVATE_TOOLS],
        what="Fetching the private pip",
        cwd=folder,
        env=pip_environment(),
    )
    expected = folder / "expected.txt"
    expected.write_text(
        f"{PROJECT}=={PROJECT_VERSION} --hash=sha256:{SHA256}\n",
        encoding="utf-8",
    )
    call(
        [python, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
        + ["--no-build-isolation", "--require-hashes", "-r", str(expected), "-d", str(folder)],
        what=f"Downloading {PROJECT} {PROJECT_VERSION}",
        cwd=folder,
        env=pip_environment(PYTHONPATH=str(private)),
    )
    return folder / f"{PROJECT}-{PROJECT_VERSION}.tar.gz"


def check_hash(archive: Path) -> None:
    try:
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as error:
        raise InstallError(f"{archive} cannot be read: {error.strerror}.") from None
    if digest != SHA256:
        raise InstallError(
            f"{archive} is not the archive that was examined: its sha256 is {digest}, "
            f"expected {SHA256}. Remove it and fetch it again."
        )


# -- step 3: the edits ---------------------------------------------------------------------


def read_archive(archive: Path) -> dict[str, bytes]:
    """The files that the wheel will hold, by their place in it; and LICENSE.

    The archive's top-level tools/ is left out: installed, it would hide the tools/ of others.
    """
    files: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            place = wheel_place("/".join(PurePosixPath(member.name).parts[1:]))
            handle = tar.extractfile(member) if member.isfile() else None
            if place and handle:
                files[place] = handle.read()
    for suffix, expected in COUNTED_FILES.items():
        count = sum(name.endswith(suffix) for name in files)
        if count != expected:
            raise InstallError(
                f"{archive} holds {count} {suffix} files, expected {expected}. "
                "Nothing was installed."
            )
    return files


def wheel_place(name: str) -> str | None:
    if name == "LICENSE" or name.startswith("detectron2/"):
        return name
    for source, target in PROJECTS.items():
        if name.startswith(source + "/"):
            return target + name[len(source) :]
    return None


def apply_edits(files: Mapping[str, bytes], edits: Iterable[Edit] = EDITS) -> dict[str, bytes]:
    """The files with every edit made, each changed one marked as changed in its first line.

    Raises:
        InstallError: a text does not occur in its file as often as in the table.
    """
    changed: dict[str, str] = {}
    reasons: dict[str, list[str]] = {}
    for edit in edits:
        if edit.file not in files:
            raise InstallError(f"{edit.file} is not in the archive. Nothing was installed.")
        text = changed.get(edit.file) or files[edit.file].decode("utf-8")
        count = text.count(edit.old)
        if count != edit.times:
            raise InstallError(
                f"{edit.file}: {edit.old.strip()!r} stands {count} times, expected {edit.times} "
                f"({edit.reason}). Nothing was installed."
            )
        changed[edit.file] = text.replace(edit.old, edit.new)
        if edit.reason not in reasons.setdefault(edit.file, []):
            reasons[edit.file].append(edit.reason)
    return {
        **files,
        **{
            name: f"# Changed for resdet (2026): {'; '.join(reasons[name])}.\n{text}".encode()
            for name, text in changed.items()
        },
    }


# -- step 4: the wheel ---------------------------------------------------------------------


def write_wheel(files: Mapping[str, bytes], folder: Path) -> Path:
    """A wheel of `files`; the package's __init__.py stands last, see the module's docstring."""
    info = f"detectron2-{VERSION}.dist-info"
    metadata = (
        f"Metadata-Version: 2.1\nName: detectron2\nVersion: {VERSION}\n"
        "Summary: Detectron2 0.6 without compiled operators, changed to run on current libraries\n"
        "Home-page: https://github.com/facebookresearch/detectron2\nAuthor: FAIR\n"
        "License: Apache-2.0\nRequires-Python: >=3.8\n"
        + "".join(f"Requires-Dist: {name}\n" for name in REQUIREMENTS)
    )
    tag = "Wheel-Version: 1.0\nGenerator: resdet\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rest = {name: data for name, data in files.items() if name != "LICENSE"}
    last = {"detectron2/__init__.py": rest.pop("detectron2/__init__.py")}
    contents = {
        f"{info}/LICENSE": files["LICENSE"],
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": tag.encode(),
        **dict(sorted(rest.items())),
        **last,
    }
    record = [f"{name},sha256={digest(data)},{len(data)}" for name, data in contents.items()]
    record.append(f"{info}/RECORD,,")
    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
        for name, data in contents.items():
            archive.writestr(name, data)
    return wheel


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def install(python: str, archive: Path | None = None) -> str:
    """Installs `detectron2 0.6+py` under `python`; returns version and place.

    Raises:
        InstallError: what stopped it; nothing half-installed counts as installed.
    """
    with temporary_folder() as folder:
        archive = archive or fetch(python, folder)
        check_hash(archive)
        files = {**apply_edits(read_archive(archive)), **added_files()}
        wheel = write_wheel(files, folder)
        call(
            [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
            + ["--force-reinstall", str(wheel)],
            what="Installing the wheel",
            cwd=folder,
            env=pip_environment(),
        )
    version = installed(python)
    if version is None:
        raise InstallError(
            f"detectron2 {VERSION} is installed, but does not import. See why: "
            f"{python} -c 'import detectron2.engine'. "
            "A missing module: pip install -c constraints.txt " + " ".join(REQUIREMENTS[-3:]) + " …"
        )
    return version


def added_files() -> dict[str, bytes]:
    return {name: text.encode() for name, text in ADDED_FILES.items()}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="resdet-detectron2-") as folder:
        yield Path(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Installs Detectron2 0.6 without a compiler.")
    parser.add_argument("--python", default=sys.executable, help="environment to install into")
    parser.add_argument("--archive", type=Path, help="the source archive, if it lies here already")
    parser.add_argument("--force", action="store_true", help="replace one that works")
    args = parser.parse_args(arguments)
    version = None if args.force else installed(args.python)
    if version:
        print(f"Detectron2 is there and stays: {version}")
        return 0
    try:
        print(f"Detectron2 {VERSION} installed: {install(args.python, args.archive)}")
    except InstallError as error:
        print(f"Detectron2 was not installed. {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
