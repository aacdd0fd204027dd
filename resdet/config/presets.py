"""The presets: config files that come with resdet, found by name in a checkout and in a wheel.

A checkout and an editable installation have them in `configs/`; a wheel has the same folder as
`resdet/presets/`, which setup.py copies at build time. Needs no package.

Not for: reading a config (`config_file`), or writing presets (`tools/make_presets.py`).
"""

from __future__ import annotations

import difflib
from pathlib import Path

from resdet.errors import ConfigError

SUFFIXES = (".yaml", ".yml")


def root() -> Path:
    """The folder of all presets.

    Raises:
        ConfigError: neither form of the folder is there.
    """
    package = Path(__file__).resolve().parents[1]
    # The packed folder first: beside an installed package, `configs` is another project's.
    for folder in (package / "presets", package.parent / "configs"):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"The presets are neither in {package / 'presets'} nor in {package.parent / 'configs'}: "
        "resdet is not installed whole. Install it again, or give --config a path."
    )


def _files() -> dict[str, Path]:
    """Name to file. What presets are made from, `base/` and `base_*`, is no preset."""
    files = sorted(root().rglob("*.yaml"))
    return {
        file.stem: file
        for file in files
        if file.parent.name != "base" and not file.stem.startswith("base_")
    }


def names(folder: str | None = None) -> tuple[str, ...]:
    """The names of all presets, or of those in one folder such as "pretrain"."""
    top = root()
    return tuple(
        sorted(
            name
            for name, file in _files().items()
            if folder is None or file.parent.relative_to(top).as_posix() == folder
        )
    )


def find(name_or_path: str | Path) -> Path:
    """The config file: a path as it is, a name such as "coco_r101" as the preset's file.

    A file of that path wins over a preset of that name. Whatever has a folder or a suffix is a
    path; its reader reports what is wrong with it. Directly in configs/ every preset is found,
    whichever of the folders there it lies in.

    Raises:
        ConfigError: no file and no preset of that name, with the nearest names; a path that is
            not there, whose name is a preset's.
    """
    path = Path(name_or_path)
    if path.exists() and not path.is_dir():
        return path
    files = _files()
    if path.name != str(name_or_path) or path.suffix in SUFFIXES:
        if path.stem in files and path.parent.resolve() == root().resolve():
            return files[path.stem]
        if path.stem in files and not path.exists():
            raise ConfigError(
                f"{path.absolute()} does not exist. There is a preset of that name: "
                f"--config {path.stem}"
            )
        return path
    if path.name in files:
        return files[path.name]
    near = difflib.get_close_matches(path.name, files, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "resdet train_det --help lists them."
    raise ConfigError(
        f"There is no file and no preset of the name {path.name}; {len(files)} presets are in "
        f"{root()}. {hint}"
    )
