"""`resdet analyze responses`: how strongly each 3x3 layer responds, figure 7 of He et al. 2015.

Not for: what a response is (`resdet.pretrain.analysis`), or drawing (`resdet.report.classifiers`).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet.atomic import write_text
from resdet.cli.evaluate.class_members import (
    device_of,
    load_set,
    member_of,
    preparation_of,
    reading_of,
    workers_for,
)
from resdet.cli.evaluate.classifiers import titles_of
from resdet.data.images.scan import Progress
from resdet.data.records import ClassificationSet, part_of
from resdet.engine.data_workers import Loader
from resdet.engine.metric_writers import start_log
from resdet.errors import ConfigError
from resdet.file_names import file_name
from resdet.nets import Net
from resdet.pretrain.analysis.layer_responses import measure_responses
from resdet.pretrain.file_scores import crops_of, load_net
from resdet.pretrain.protocols.view_protocol import ViewProtocol, make_protocol
from resdet.pretrain.protocols.views import ViewReader
from resdet.printable import show, show_json
from resdet.report.classifiers.response_picture import NetResponses, response_pictures
from resdet.report.render.charts import standalone
from resdet.run.folder import write_json
from resdet.text_table import ruled
from resdet.weights import Card
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.pretrain")

DEFINITION = (
    "Standard deviation over all values (images, channels, cells) of the output of each 3x3 "
    "convolution, after its norm and before ReLU or the addition of a shortcut; where no norm "
    "follows, after the convolution. Centre crops, evaluation mode, float32; sums in float64."
)
FILES = ("responses.json", "responses.svg", "responses_sorted.svg")


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes three files; returns 0."""
    for name, least in (("images", 0), ("batch_size", 1), ("workers", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: give {least} or more.")
    start_log()
    device = device_of(args.device)
    files = [
        (title, WeightFile(member_of(title, path).weights, args.part))
        for title, path in zip(titles_of(args.members), args.members, strict=True)
    ]
    # Every file is looked at before the first image is.
    loaded = [(title, file, *load_net(file)) for title, file in files]
    measured = [_measured(*each, args, device) for each in loaded]
    values = {
        "definition": DEFINITION,
        "data": {"name": args.data, "images": measured[0].facts["images"]},
        "nets": [net.to_json() for net in measured],
    }
    folder = Path(args.output) if args.output else _folder(measured)
    by_layer, ordered = response_pictures(measured, log_y=args.y == "log")
    write_json(folder / FILES[0], values)
    write_text(folder / FILES[1], standalone(by_layer))
    write_text(folder / FILES[2], standalone(ordered))
    if args.json:
        show_json(values)
        return 0
    show("\n".join(table(measured)))
    show(f"files: {', '.join(str(folder / name) for name in FILES)}")
    return 0


def _folder(measured: Sequence[NetResponses]) -> Path:
    more = f"+{len(measured) - 1}" if len(measured) > 1 else ""
    return Path("reports") / file_name(f"responses_{measured[0].title}{more}")


def _measured(
    title: str,
    file: WeightFile,
    net: Net,
    card: Card,
    args: argparse.Namespace,
    device: str,
) -> NetResponses:
    whole = load_set(args.data, reading_of(card))
    data = part_of(whole, args.images)
    crops = crops_of(card)
    protocol = make_protocol(
        "centre", crop=crops["PRETRAIN.CROP"], side=crops["PRETRAIN.TEST_SIDE"]
    )
    prepare = preparation_of(card, device)
    workers = workers_for(args.workers, data, device)
    logger.info("%s: responses of %s on %d of %d images of %s", title, card.net, len(data),
                len(whole), whole.name)  # fmt: skip
    batches = (
        prepare(images)
        for images in _batches(data, protocol, args.batch_size, workers, f"{title}, responses")
    )
    try:
        responses = measure_responses(net.to(device), batches, where=file.where)
    except ValueError as error:
        raise ConfigError(f"{file.where} ({card.net}): {error}.") from None
    facts = {
        "net": card.net,
        "net_options": dict(card.net_options),
        "file": file.where,
        "tensors": file.digest,
        "images": len(data),
        "images_in_set": len(whole),
        "data_hash": whole.hash,
        "protocol": protocol.words(),
    }
    return NetResponses(title, tuple(r.to_json() for r in responses), facts)


def _batches(
    data: ClassificationSet, protocol: ViewProtocol, batch_size: int, workers: int, what: str
) -> Iterator[torch.Tensor]:
    """(N, 3, H, W) uint8 RGB centre crops, every image once, in the order of the set."""
    reader = ViewReader(data, protocol, list(range(len(data))))
    loader = Loader(reader, workers, batch_size, batch_size=batch_size, collate_fn=list)
    progress, done = Progress(what, len(data), logger), 0
    for items in loader:
        crops: list[np.ndarray] = [views[0][0] for _, views in items]
        yield torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        done += len(items)
        progress.show(done)


def table(measured: Sequence[NetResponses]) -> list[str]:
    """A row per net, for people."""
    rows: list[list[str]] = []
    for net in measured:
        stds = net.stds
        without = f"{net.without_norm}" if net.without_norm else "-"
        numbers = (net.mean_std, sorted(stds)[len(stds) // 2], min(stds), max(stds))
        rows.append([net.title, str(len(stds)), *(f"{v:.4f}" for v in numbers), without])
    facts: dict[str, Any] = dict(measured[0].facts)
    head = ("net", "3x3 layers", "mean std", "median", "least", "most", "without norm")
    lines = [
        f"responses on {facts['images']:,} of {facts['images_in_set']:,} images "
        f"({facts['protocol']})",
        "",
        *ruled(head, rows),
        DEFINITION,
    ]
    return [*lines, ""]
