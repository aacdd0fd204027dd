"""Types of arguments that name what is written: a file or a folder that can be one, else refused.

Not for: how it is written (`resdet.atomic`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def output_folder(text: str) -> str:
    """A folder to write to; an empty word is a mistake, not the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name a folder, or leave the option out")
    path = Path(text)
    for there in (path, *path.parents):
        if there.is_file():
            raise argparse.ArgumentTypeError(f"{there} is a file; name a folder")
        _refuse_device(there, "folder")
    return _text(text)


def _text(name: str) -> str:
    """The name of what is to be written, if all that write can: some take UTF-8 alone."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{name} is no UTF-8, which TensorBoard and safetensors write to alone; name another"
        ) from None
    return name


def output_file(text: str) -> str:
    """A file to write; neither empty nor a folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name the file to write")
    if text.endswith(os.sep) or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name the file to write in it")
    _refuse_device(Path(text), "file")
    return _text(text)


def _refuse_device(path: Path, wanted: str) -> None:
    """A file that is renamed to its name would replace it, for everyone on the machine."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise argparse.ArgumentTypeError(f"{path} is a device or a pipe; name a {wanted}")


def output_file_or_folder(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; name the file to write")
    _refuse_device(Path(text), "file")
    return _text(text)


def output_folder_path(text: str) -> Path:
    return Path(output_folder(text))


def output_file_path(text: str) -> Path:
    return Path(output_file(text))
