"""The object in an instances file, .json or .json.gz, or what the file is instead.

Not for: what is in it (`coco_entries`).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from resdet import bounded_files
from resdet.errors import DataError
from resdet.formats import foreign
from resdet.formats.json_decoding import loads
from resdet.formats.other_tools import describe_json


def read_json(path: Path) -> dict[str, Any]:
    """The object in a .json or .json.gz file.

    Raises:
        DataError: no such file, not JSON (states what it is), or not an object.
    """
    try:
        data = bounded_files.read_bytes(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Put it there; see datasets/README.md.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        data = bounded_files.unpacked(data)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is cut off or damaged: {error}. Fetch it again.") from None
    try:
        content = loads(data.removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        raise DataError(
            f"{path} is nested too deeply for an instances file. Fetch it again."
        ) from None
    except ValueError as error:
        head = data[: foreign.HEAD_BYTES]
        if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
            description = foreign.describe(head, len(data), expected="JSON", quotes=True)
            raise DataError(f"{path} {description}") from None
        raise DataError(
            f"{path} is cut off or damaged: after {len(data):,} bytes, {error}. Fetch it again."
        ) from None
    if not isinstance(content, dict):
        what = describe_json(content) or "Is it a results file? Give the instances file."
        raise DataError(
            f"{path} holds a {type(content).__name__}, not an object with images, annotations and "
            f"categories. {what}"
        )
    return content
