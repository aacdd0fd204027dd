"""`make_shards SET FOLDER`: tar shards in webdataset's layout from class folders, or any other set.

Not for: what shards hold (`resdet.data.shards`).
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from resdet.cli.output_paths import output_folder
from resdet.printable import show, show_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SET", help="class folders, imagenet_train, wds:PATTERN, "
                        "cifar10_train, … as PRETRAIN.TRAIN takes it")  # fmt: skip
    parser.add_argument("folder", metavar="FOLDER", type=output_folder,
                        help="where the shards go; an empty one, or one to go on with")  # fmt: skip
    parser.add_argument("--stem", default="train", help="of the shards' names (train)")
    parser.add_argument("--shard-mb", type=_size, default=256.0, metavar="MB",
                        help="a shard has no more, unless one image has (256)")  # fmt: skip
    parser.add_argument("--shuffle", type=_seed, metavar="SEED",
                        help="mix the classes, for readers that take shards from front to back; "
                        "training here is the same either way")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Makes the shards; 0 when they hold what the set has."""
    from resdet.data import catalog
    from resdet.data.shards.making import make_shards

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    catalog.require([args.source])
    data = catalog.load_classification(args.source)
    made = make_shards(
        data, Path(args.folder), stem=args.stem, shard_mb=args.shard_mb, seed=args.shuffle
    )
    if args.json:
        show_json(asdict(made))
        return 0
    show(
        f"{made.images:,} images in {made.shards:,} shards ({made.size / 1e9:.2f} GB), each "
        f"compared with its source; {made.written:,} were written now"
        f"\n  PRETRAIN.TRAIN {made.name!r}"
    )
    return 0


def _size(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} MB is no size of a shard")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0; a seed is 0 or above")
    return value
