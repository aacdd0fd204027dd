"""One file over HTTP into a cache: whole, with the stated hash, or not there.

`RESDET_MIRROR=http://host/path` takes https://HOST/PATH from http://host/path/HOST/PATH, for
machines without a way out; `HF_HUB_OFFLINE=1` (Hugging Face's own variable) asks nobody.

Not for: which address means which file (`fetch`), or Hugging Face's hub (`hugging_face`).
"""

from __future__ import annotations

import contextlib
import contextvars
import http.client
import logging
import os
import shutil
import socket
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from iopath.common.download import download as download_to
from iopath.common.file_io import file_lock

from resdet.bounded_files import sha256_of_file
from resdet.errors import WeightsError

logger = logging.getLogger("resdet.weights")
# What failed is stated by the page.
logging.getLogger("iopath.common.download").addFilter(lambda r: r.levelno < logging.ERROR)

MIRROR = "RESDET_MIRROR"
OFFLINE = "HF_HUB_OFFLINE"
SILENT_SECONDS = 30.0
TRUE = ("1", "ON", "YES", "TRUE")


_CACHE_ALONE = contextvars.ContextVar("cache_alone", default=False)


def is_offline() -> bool:
    return _CACHE_ALONE.get() or os.environ.get(OFFLINE, "").upper() in TRUE


@contextlib.contextmanager
def cache_alone() -> Iterator[None]:
    """Within, nobody is asked: a file that lies in no cache is refused, not fetched."""
    before = _CACHE_ALONE.set(True)
    try:
        yield
    finally:
        _CACHE_ALONE.reset(before)


def mirrored(url: str) -> str:
    """Where a URL is taken from: itself, or its place on the mirror."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    return f"{mirror}/{url.split('://', 1)[1]}" if mirror else url


def cached(url: str, target: Path, address: str, sha256: str = "") -> str:
    """Makes sure that `target` is the file at `url`; one that is there is not asked for again.

    Of several processes one downloads and the others wait.

    Args:
        sha256: of the file, or its first digits; "" where nobody states it.

    Returns:
        The SHA-256 of the file.

    Raises:
        WeightsError: it is neither in the cache nor to be had, or another file than stated.
    """
    try:
        # Without a lock, so that a cache may be one that is only read.
        if target.is_file() and (digest := sha256_of_file(target)).startswith(sha256):
            return digest
    except OSError as error:
        raise WeightsError(
            f"{address}: {target} in the cache cannot be read: {error.strerror or error}. Make it "
            "readable, or remove it, and type the command again."
        ) from None
    if is_offline():
        raise WeightsError(_page_of_offline(url, target, address))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(target)):
            return _cached(url, target, address, sha256)
    except OSError as error:
        raise WeightsError(
            f"{address}: {target} cannot be written: {error.strerror or error}. Free some space, "
            "or choose another place by TORCH_HOME (FVCORE_CACHE for detectron2://)."
        ) from None


def _page_of_offline(url: str, target: Path, address: str) -> str:
    why = (
        "nothing is fetched now."
        if _CACHE_ALONE.get()
        else f"{OFFLINE} is set, so nobody is asked. Unset it, or put the file of {url} there."
    )
    held = (
        f"{address}: {target} in the cache has another hash than the one stated"
        if target.is_file()
        else f"{address} is not in the cache ({target})"
    )
    return f"{held}, and {why}"


def _cached(url: str, target: Path, address: str, sha256: str) -> str:
    if target.is_file():
        digest = sha256_of_file(target)
        if digest.startswith(sha256):
            return digest
        logger.warning(
            "%s has SHA-256 %s…, and %s… is stated: it is fetched again", target, digest[:12],
            sha256[:12],
        )  # fmt: skip
    # A folder of its own: what a killed process left in it is removed by the next.
    part = target.with_name(f"{target.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with _errors_as_pages(url, target, address), _silence_ends():
            got = Path(
                download_to(
                    mirrored(url), str(part), filename=target.name, progress=sys.stderr.isatty()
                )
            )
        digest = sha256_of_file(got)
        if not digest.startswith(sha256):
            raise WeightsError(
                f"{address}: what {mirrored(url)} sent has SHA-256 {digest}, expected {sha256}"
                f"{'' if len(sha256) == 64 else '…'}. It is another file, or it was changed on "
                "the way; nothing of it is kept."
            )
        os.replace(got, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return digest


@contextlib.contextmanager
def _errors_as_pages(url: str, target: Path, address: str) -> Iterator[None]:
    source = mirrored(url)
    by_hand = (
        f"Fetch {url} where there is a way, and put it there: {target}; or set {MIRROR} to a "
        "mirror; or give the path of a file that you have."
    )
    try:
        yield
    except urllib.error.HTTPError as error:
        where = "" if source == url else f" (the mirror of {url})"
        raise WeightsError(
            f"{address}: {source}{where} answers {error.code} {error.reason}. Check the address."
        ) from None
    except (urllib.error.ContentTooShortError, http.client.IncompleteRead):
        raise WeightsError(
            f"{address}: the connection to {source} ended before the file did; nothing of it is "
            "kept. Type the command again."
        ) from None
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"{address} is not in the cache, and {source} cannot be reached ({reason}). {by_hand}"
        ) from None
    except (http.client.InvalidURL, UnicodeError) as error:
        raise WeightsError(
            f"{address}: {source} is no URL ({error}). Write a blank as %20, other letters than "
            "ASCII's as a browser copies them, and a port as a number."
        ) from None
    except (http.client.HTTPException, ValueError) as error:
        raise WeightsError(
            f"{address}: {source} is not answered as the web answers ({error!r}). {by_hand}"
        ) from None


@contextlib.contextmanager
def _silence_ends() -> Iterator[None]:
    """A host that does not answer is given up, not waited for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
