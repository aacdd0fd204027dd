"""An address to a file on this machine, and what is known of it.

    file = fetch("torchvision://resnet101/IMAGENET1K_V1")
    file.path, file.sha256

Each library is asked for its own names; its cache is used, so that what another tool has fetched
is not fetched again.

Not for: what is in the file (`weights.resolve`).
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from iopath.common.file_io import get_cache_dir

from resdet.errors import WeightsError
from resdet.weights.addresses import hugging_face
from resdet.weights.addresses.download import cached
from resdet.weights.addresses.fetched_file import FetchedFile

logger = logging.getLogger("resdet.weights")

DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
# Detectron2's MODEL_ZOO.md states it of all that it lists, which lies in these folders.
ZOO_LICENSE = "cc-by-sa-3.0"
_OF_MODEL_ZOO = (
    "ImageNetPretrained", "COCO-Detection", "COCO-InstanceSegmentation", "COCO-Keypoints",
    "COCO-PanopticSegmentation", "LVISv0.5-InstanceSegmentation", "Cityscapes",
    "PascalVOC-Detection", "Detectron1-Comparisons", "Misc",
)  # fmt: skip
# Path("https://host") prints one slash; a folder "a:", or a drive, is a path.
_ADDRESS = re.compile(r"(\w+):/(?:/|(?=.))")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_OTHERS = ("ftp", "file", "s3", "gs")


def is_address(text: Path | str) -> bool:
    """Whether this is an address of one of `SCHEMES`, not a path."""
    return _scheme(text) in SCHEMES


def refuse_address(text: Path | str) -> None:
    """Raises WeightsError for an address that nothing fetches."""
    scheme = _scheme(text)
    if scheme and scheme not in SCHEMES:
        near = difflib.get_close_matches(scheme, SCHEMES, 1)
        rest = str(text).split(":/", 1)[1].lstrip("/")
        hint = f" Did you mean {near[0]}://{rest}?" if near else ""
        raise WeightsError(
            f"{scheme}://{rest} is an address of a kind that is not fetched. These are: "
            f"{', '.join(f'{name}://' for name in SCHEMES)}.{hint} Else download the file, and "
            "give its path."
        )


def local_path(path: Path | str) -> Path:
    """A path as it is; of an address the file that it means, fetched; raises as `fetch`."""
    file = if_address(path)
    return file.path if file else Path(path)


def if_address(path: Path | str) -> FetchedFile | None:
    """The file of an address, fetched and named in the log; None for a path; raises as `fetch`."""
    if not is_address(path):
        refuse_address(path)
        return None
    file = fetch(str(path))
    logger.info("%s", file.sentence())
    return file


def name_of(address: Path | str) -> str:
    """What is behind the scheme, without a hash: for names of folders and tables."""
    return str(address).split(":/", 1)[1].strip("/").partition("#")[0]


def _scheme(text: Path | str) -> str:
    found = _ADDRESS.match(str(text))
    if not found:
        return ""
    name = found[1].lower()
    # "a:/b" is a path; "a://b" is not, nor "timn:/b", from which Path took a slash.
    known = name in SCHEMES or name in _OTHERS
    is_near = bool(difflib.get_close_matches(name, SCHEMES, 1))
    is_folder = Path(f"{found[1]}:").exists()
    is_kind = known or found[0].endswith("//") or (is_near and not is_folder)
    return name if is_kind else ""


def fetch(address: str) -> FetchedFile:
    """The file of an address, from its cache or fetched into it.

    Raises:
        WeightsError: the address is none, names nothing, or its file is not to be had; states what
            to do.
    """
    scheme = _scheme(address)
    rest = address.split(":/", 1)[1].lstrip("/") if scheme else ""
    if scheme not in SCHEMES or not rest:
        raise WeightsError(f"{address} is no address. Expected {' or '.join(EXAMPLES)}.")
    return SCHEMES[scheme](f"{scheme}://{rest}", rest)


def _torchvision(address: str, rest: str) -> FetchedFile:
    from torchvision import models

    net, _, version = rest.partition("/")
    if net not in models.list_models():
        near = difflib.get_close_matches(net, models.list_models(), 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise WeightsError(f"{address}: torchvision has no model called {net}.{hint}")
    versions: dict[str, Any] = dict(models.get_model_weights(net).__members__)
    if version not in versions:
        # DEFAULT is what it is in this release of torchvision.
        names = [f"torchvision://{net}/{name}" for name in versions if name != "DEFAULT"]
        raise WeightsError(
            f"{address}: torchvision's weights of {net} are {', '.join(names) or 'none'}. Give one."
        )
    url = str(versions[version].url)
    name = url.rsplit("/", 1)[1]
    stated = _HASH_IN_NAME.search(name)
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    digest = cached(url, target, address, stated[1] if stated else "")
    # Stated of a few alone, whose licence is another than the library's.
    license_text = str(versions[version].meta.get("license", ""))
    by = "its name in torchvision" if stated else ""
    return FetchedFile(address, target, url, digest, by, license=license_text)


def _detectron2(address: str, rest: str) -> FetchedFile:
    _, stated = _with_hash(address)
    url = DETECTRON2 + rest.partition("#")[0]
    parts = _path_of(address, url)
    # Where Detectron2's own path manager keeps it.
    target = Path(get_cache_dir()).joinpath(*parts)
    digest = cached(url, target, address, stated)
    is_in_zoo = parts[1] in _OF_MODEL_ZOO
    by = "the address" if stated else ""
    return FetchedFile(address, target, url, digest, by, license=ZOO_LICENSE * is_in_zoo)


def _web(address: str, _: str) -> FetchedFile:
    url, stated = _with_hash(address)
    name = _path_of(address, url)[-1]
    # Two hosts may have a file of one name.
    folder = hashlib.sha256(url.encode()).hexdigest()[:16]
    target = Path(torch.hub.get_dir()) / "checkpoints" / "resdet" / folder / name
    digest = cached(url, target, address, stated)
    if not stated:
        logger.warning(
            "%s states no hash, so another file may lie there tomorrow. This one: "
            "%s#sha256=%s", address, url, digest,
        )  # fmt: skip
    return FetchedFile(address, target, url, digest, "the address" if stated else "")


def _with_hash(address: str) -> tuple[str, str]:
    """What stands before #sha256=, and its digits, "" without; raises WeightsError."""
    url, _, fragment = address.partition("#")
    key, _, stated = fragment.partition("=")
    if fragment and (key != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{8,64}", stated)):
        raise WeightsError(
            f"{address}: #{fragment} is no hash. Write #sha256= and its 64 digits (8 at least)."
        )
    return url, stated.lower()


def _path_of(address: str, url: str) -> list[str]:
    """Folders and file of a URL, none of which leads out of a cache; raises WeightsError."""
    try:
        path = unquote(urlsplit(url).path)
    except ValueError as error:
        raise WeightsError(f"{address} is no URL: {error}.") from None
    parts = path.lstrip("/").split("/")
    if not parts[-1]:
        raise WeightsError(f"{address} names no file: nothing stands behind its last slash.")
    if {"", ".", ".."} & set(parts) or not path.isprintable():
        raise WeightsError(f"{address}: {path!r} is no path to a file. Check the address.")
    return parts


SCHEMES: dict[str, Callable[[str, str], FetchedFile]] = {
    "torchvision": _torchvision,
    "timm": hugging_face.fetch_timm,
    "hf": hugging_face.fetch_hub,
    "detectron2": _detectron2,
    "https": _web,
    "http": _web,
}
EXAMPLES = (
    "torchvision://resnet101/IMAGENET1K_V1", "timm://resnet50.a1_in1k",
    "hf://timm/resnet50.a1_in1k", "detectron2://ImageNetPretrained/MSRA/R-101.pkl",
    "https://host/file.pth#sha256=…",
)  # fmt: skip
