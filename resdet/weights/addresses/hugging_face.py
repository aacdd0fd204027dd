"""Files of Hugging Face's hub, timm's among them, through huggingface_hub and its cache.

A mirror is HF_ENDPOINT, no network HF_HUB_OFFLINE=1, another cache HF_HOME: the library's own
variables. Its cache calls a large file by its SHA-256, which is compared.

Not for: files of a set of images (`data.readers.hugging_face`).
"""

from __future__ import annotations

import difflib
import importlib
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet import bounded_files
from resdet.bounded_files import sha256_of_file
from resdet.errors import WeightsError
from resdet.weights.addresses.download import is_offline
from resdet.weights.addresses.fetched_file import FetchedFile

# In this order, where the address names no file.
FILES = ("model.safetensors", "pytorch_model.bin")
RECORD, README = "config.json", "README.md"
ANSWER_SECONDS = 10.0
_HUB = re.compile(r"hf:/+(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")


def fetch_hub(address: str, _: str) -> FetchedFile:
    """hf://owner/repo[@revision][/file]; raises WeightsError as `fetch.fetch`."""
    return _fetch(address, *parts_of(address))


def parts_of(address: str) -> tuple[str, str | None, str | None]:
    """Repository, revision and file of hf://owner/repo[@revision][/file]; raises WeightsError."""
    parts = _HUB.fullmatch(address)
    if not parts:
        raise WeightsError(
            f"{address} is no address of the hub. Expected hf://owner/repo[@revision][/file]."
        )
    return parts["repo"], parts["revision"], parts["file"]


def fetch_timm(address: str, rest: str) -> FetchedFile:
    """timm://NAME[.TAG], by timm's own record; raises WeightsError as `fetch.fetch`."""
    try:
        import timm
    except ImportError:
        raise WeightsError(
            f"{address} needs timm: pip install 'resdet[timm]'. Or give the path of a file."
        ) from None
    try:
        record = timm.get_pretrained_cfg(rest, allow_unregistered=False)
    except RuntimeError:
        record = None
    if record is None:
        names = timm.list_pretrained()
        near = difflib.get_close_matches(rest, names, 3)
        near = near or [name for name in names if name.split(".")[0] == rest.split(".")[0]][:6]
        hint = f" It has {', '.join(f'timm://{name}' for name in near)}." if near else ""
        raise WeightsError(f"{address}: timm {timm.__version__} has no weights of that name.{hint}")
    if not record.hf_hub_id:
        raise WeightsError(
            f"{address}: timm has no file of it on the hub. "
            + (f"Give {record.url} itself." if record.url else "It was never published.")
        )
    file = _fetch(address, record.hf_hub_id, None, record.hf_hub_filename)
    return replace(file, license=record.license or file.license)


def _fetch(address: str, repo: str, revision: str | None, file: str | None) -> FetchedFile:
    hub = library(address)
    is_cached = _is_cached(hub, repo, file or FILES[0], revision)
    in_cache_alone = is_offline() or not (is_cached or _answers(hub))
    for name in (file,) if file else FILES:
        try:
            path = Path(
                hub.hf_hub_download(repo, name, revision=revision, local_files_only=in_cache_alone)
            )
            break
        except Exception as error:  # of three libraries, and others in each of its versions
            is_absent = isinstance(error, hub.errors.EntryNotFoundError)
            if is_absent and not file and name != FILES[-1]:
                # A hub that did not answer is not asked, and waited for, again.
                in_cache_alone = isinstance(error, hub.errors.LocalEntryNotFoundError)
                continue
            raise WeightsError(_page(hub, address, repo, revision, file, error)) from None
    _record_beside(hub, repo, revision, name, in_cache_alone=in_cache_alone)
    digest = sha256_of_file(path)
    stated = path.resolve().name
    is_hash = re.fullmatch(r"[0-9a-f]{64}", stated) is not None
    if is_hash and stated != digest:
        raise WeightsError(
            f"{path.resolve()} in Hugging Face's cache is damaged: its SHA-256 is {digest}. Remove "
            "it, and type the command again."
        )
    commit = _commit(path)
    url = f"{hub.constants.ENDPOINT}/{repo}/blob/{commit or revision or 'main'}/{name}"
    by = "the hub" if is_hash else ""
    license_id = _license(hub, repo, revision, in_cache_alone=in_cache_alone)
    return FetchedFile(address, path, url, digest, by, commit, license_id)


def library(address: str) -> Any:
    """huggingface_hub; raises WeightsError where it is not installed."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise WeightsError(
            f"{address} needs huggingface_hub: pip install 'resdet[hub]'. Or give the path of a "
            "file."
        ) from None
    for name in ("constants", "errors"):
        importlib.import_module(f"huggingface_hub.{name}")
    return hub


def _is_cached(hub: Any, repo: str, file: str, revision: str | None) -> bool:
    try:
        return isinstance(hub.try_to_load_from_cache(repo, file, revision=revision), str)
    except hub.errors.HFValidationError:  # a name that the download refuses too
        return False


def _answers(hub: Any) -> bool:
    """Whether anything answers there; the library itself asks for half a minute, line by line."""
    for wait in (0, 1):
        time.sleep(wait)
        try:
            hub.get_session().head(hub.constants.ENDPOINT, timeout=ANSWER_SECONDS)
            return True
        except Exception:  # of two libraries of HTTP, by its version
            continue
    return False


def _record_beside(
    hub: Any, repo: str, revision: str | None, file: str, *, in_cache_alone: bool
) -> None:
    """timm's and transformers' config.json, which states what the input must be; if it is there."""
    folder = file.rpartition("/")[0]
    try:
        hub.hf_hub_download(
            repo, RECORD, subfolder=folder or None, revision=revision,
            local_files_only=in_cache_alone,
        )  # fmt: skip
    except Exception:  # as above; a file without a record is read by its origin's habits
        return


def _license(hub: Any, repo: str, revision: str | None, *, in_cache_alone: bool) -> str:
    """As the front matter of the repository's README.md states it; "" where it does not."""
    try:
        page = hub.hf_hub_download(repo, README, revision=revision, local_files_only=in_cache_alone)
        text = bounded_files.read_text(page)
        front = hub.ModelCard(text).data if text.startswith("---") else {}
    except Exception:  # as above; a page that nobody wrote, or not as the hub has them
        return ""
    values = (front.get("license_name"), front.get("license"), front.get("license_link"))
    names = [text for text in values if isinstance(text, str) and text != "other"]
    return names[0] if names else ""


def _commit(path: Path) -> str:
    """The commit by the path of the cache: …/snapshots/COMMIT/file."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""


def _page(
    hub: Any, address: str, repo: str, revision: str | None, file: str | None, error: Exception
) -> str:
    errors, at = hub.errors, f" at {revision}" if revision else ""
    where = hub.constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{address}: {repo} is gated. Accept its terms on {where}/{repo}, then type: hf auth "
            "login."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{address}: {repo} has no revision {revision}. Check it on {where}/{repo}."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{address}: {where} has no repository {repo}, or it is private. Check its name; for a "
            "private one type: hf auth login."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        names = file or " and no ".join(FILES)
        return (
            f"{address}: {repo}{at} has no {names}. Name a file that it has: "
            f"hf://{repo}{'@' + revision if revision else ''}/FILE."
        )
    if isinstance(error, errors.HFValidationError):
        return f"{address}: {error}. Expected hf://owner/repo[@revision][/file]."
    return (
        f"{address} is not in the cache ({hub.constants.HF_HUB_CACHE}), and {where} was not asked "
        "or cannot be reached. Unset HF_HUB_OFFLINE if it is set, set HF_ENDPOINT to a mirror, or "
        f"fetch {where}/{repo}/resolve/{revision or 'main'}/{file or FILES[0]} elsewhere and give "
        "the path of that file."
    )
