"""Archives for servers: the same bytes for the same content, and a stranger's zip read with care.

Nothing in an archive tells when, where or by whom it was made, so that a package can be made again
and compared by its hash.

Not for: what is inside (`coco_package`, `voc_package`), or whether it is right (`package_check`).
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

from resdet.errors import CheckFailed, ConfigError

# The first date that a zip can hold.
DATE = (1980, 1, 1, 0, 0, 0)
UNIX = 3
# A zip of a megabyte that holds a thousand is no results file.
MAX_INFLATION, FREE_BYTES = 100, 1 << 20
BLOCK = 1 << 20


def write_zip(path: Path, name: str, content: bytes) -> None:
    """A zip with one file at its top."""
    entry = zipfile.ZipInfo(name, DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = UNIX
    entry.external_attr = 0o100644 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, content, compresslevel=9)


def write_tar_gz(path: Path, files: Mapping[str, bytes]) -> None:
    """A tar.gz of files by their names in it, in the order of names."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            entry.mode = 0o644
            archive.addfile(entry, BytesIO(files[name]))


@contextlib.contextmanager
def made_aside(path: Path) -> Iterator[Path]:
    """A path of the same name in a folder aside, moved to `path` when the block ends well.

    Raises:
        ConfigError: the folder of `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = tempfile.TemporaryDirectory(prefix=".made-aside-", dir=path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path.parent} cannot be written: {error.strerror}. Choose another --output."
        ) from None
    with aside as folder:
        yield Path(folder) / path.name
        os.replace(Path(folder) / path.name, path)


def names_in_zip(path: Path) -> list[str]:
    """The names in a zip, folders included.

    Raises:
        CheckFailed: it is no zip, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError) as error:
        raise CheckFailed(f"{path} is not readable as a zip: {error}.") from None


def extract(path: Path, name: str, to: Path) -> None:
    """One file of a zip, written to the path given, whatever its name in the zip.

    Raises:
        CheckFailed: it is damaged or encrypted, or unpacks to more than a list of detections does.
    """
    most = FREE_BYTES + MAX_INFLATION * path.stat().st_size
    written = 0
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member, open(to, "wb") as f:
            while block := member.read(BLOCK):
                written += len(block)
                # Counted, not believed: the size in the zip's directory may be any.
                if written > most:
                    raise CheckFailed(
                        f"{path}: {name} unpacks to more than {most:,} bytes, {MAX_INFLATION} "
                        "times the zip's. Lists of detections shrink to a third to a tenth."
                    )
                f.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise CheckFailed(f"{path}: {name} cannot be unpacked: {error}.") from None


def read_tar_gz(path: Path) -> dict[str, bytes]:
    """The files in a tar.gz by name, read from first to last byte.

    Raises:
        CheckFailed: it is damaged, or holds a name twice.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isfile() else None
                if content is None:
                    continue
                if entry.name in files:
                    raise CheckFailed(f"{path} holds {entry.name} twice.")
                files[entry.name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise CheckFailed(f"{path} is not readable as a tar.gz: {error}.") from None
    return files
