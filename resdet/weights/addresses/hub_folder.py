"""A classifier as a repository of Hugging Face's hub: a folder first, an upload when asked.

    model.safetensors    tensors under our names, the card inside
    card.json            the card to read
    README.md            the hub's front matter by its own library, and how to load it

Not for: fetching (`hugging_face`).
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from resdet.atomic import write_text
from resdet.errors import WeightsError
from resdet.printable import json_text
from resdet.weights.addresses.hugging_face import library, parts_of
from resdet.weights.cards import Card
from resdet.weights.files import save
from resdet.weights.resolve import WeightFile

MODEL, CARD, README = "model.safetensors", "card.json", "README.md"


@dataclasses.dataclass(frozen=True)
class HubFolder:
    """What was written.

    Attributes:
        url: of the commit, where it was uploaded; "" before.
    """

    folder: Path
    address: str
    card: Card
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "address": self.address, "url": self.url,
            "net": self.card.net, "tensors_sha256": self.card.tensors_sha256,
        }  # fmt: skip


def write(
    file: WeightFile, address: str, folder: Path | None = None, *, license_id: str = ""
) -> HubFolder:
    """The folder of a repository, from any weight file that loads.

    Args:
        folder: not there, or empty; default: hub/OWNER--REPO.
        license_id: of the weights, an id of the hub such as "apache-2.0"; "" = not stated.

    Raises:
        WeightsError: the file does not load, the address names a file or a revision, or the folder
            has something in it.
    """
    repo, revision, name = parts_of(address)
    if revision or name:
        raise WeightsError(
            f"{address}: a repository is pushed as a whole. Expected hf://OWNER/REPO."
        )
    folder = folder or Path("hub") / repo.replace("/", "--")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} is not empty. Choose another --output, or remove it.")
    tensors, card = file.load()
    library(address)
    folder.mkdir(parents=True, exist_ok=True)
    card = save(folder / MODEL, tensors, card)
    write_text(folder / CARD, json_text(card.to_dict()))
    write_text(folder / README, _readme(repo, card, license_id))
    return HubFolder(folder, address, card)


def upload(made: HubFolder, *, private: bool = False) -> HubFolder:
    """Puts the folder onto the hub; the repository is made where it is not there.

    Raises:
        WeightsError: the hub refuses or does not answer; the folder stays.
    """
    hub = library(made.address)
    repo, _, _ = parts_of(made.address)
    try:
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=str(made.folder), commit_message=f"{made.card.net} by resdet"
        )
    except Exception as error:  # of several libraries, others in each of its versions
        raise WeightsError(
            f"{made.address}: the hub did not take it ({type(error).__name__}: {error}). "
            f"{made.folder} stays. Log in with: hf auth login; then hf upload {repo} {made.folder}"
        ) from None
    return dataclasses.replace(made, url=str(getattr(commit, "commit_url", commit)))


def _readme(repo: str, card: Card, license_id: str) -> str:
    cards = importlib.import_module("huggingface_hub")
    front = cards.ModelCardData(
        library_name="resdet",
        license=license_id or None,
        tags=["image-classification", card.net],
        model_name=repo.split("/")[1] if card.metrics else None,
        eval_results=_results(cards, card) or None,
    )
    mean, std = (", ".join(f"{v:g}" for v in x) for x in (card.input.mean, card.input.std))
    known = "as recorded" if card.verified else "by its origin's habits, not by a record"
    trained = card.data.get("name") or "not recorded"
    lines = [
        "---", front.to_yaml(), "---", "",
        f"# {repo.split('/')[1]}", "",
        f"A {card.net}, {len(card.classes) or 'an unrecorded number of'} classes, for resdet.", "",
        "| | |", "| --- | --- |",
        f"| input ({known}) | {card.input.color_order}, (0 to 255 - [{mean}]) / [{std}], "
        f"{card.input.size} pixels |",
        f"| trained on | {trained} |",
        f"| origin | {card.origin} |",
        *(f"| {name} | {value:g} |" for name, value in sorted(card.metrics.items())),
        f"| license | {license_id or 'not stated'} |",
        f"| SHA-256 of the tensors | {card.tensors_sha256} |",
        "", "As the backbone of a detector, untouched:", "",
        "```", "python tools/train_det.py --config CONFIG \\",
        f"    MODEL.NET.NAME {card.net} MODEL.WEIGHTS hf://{repo}", "```", "",
        "In Python: `tensors, card = resdet.load_weights(\"hf://" + repo + "\")`.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _results(cards: Any, card: Card) -> list[Any]:
    """The card's top-1 and top-5 errors as the hub's accuracies, in percent."""
    data = card.data.get("name") or "not recorded"
    names = {"top1_error": "accuracy", "top5_error": "top-5 accuracy"}
    accuracies = {
        name: round(100 - card.metrics[key], 6)
        for key, name in names.items()
        if key in card.metrics
    }
    return [
        cards.EvalResult(
            task_type="image-classification", dataset_type=data, dataset_name=data,
            metric_type="accuracy", metric_name=name, metric_value=value,
        )
        for name, value in accuracies.items()
    ]  # fmt: skip
