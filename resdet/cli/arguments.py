"""Arguments of the commands whose own modules import torch.

`resdet NAME --help` reads this module and presets' names, not torch: a page in a fraction of a
second. The other commands have `add_arguments` in their own modules, which are light.

Not for: what a command does.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.cli.output_paths import (
    output_file_or_folder,
    output_file_path,
    output_folder,
    output_folder_path,
)
from resdet.cli.pictures.config_keys import MARK
from resdet.cli.rank.arguments import add_arguments as rank
from resdet.config import presets

# Those of resdet.weights, which imports torch, and of resdet.evaluation, which imports numpy;
# tests/cli/test_help.py holds them equal.
IMAGE_IDS = ("exact", "stem", "name", "number")
COLOR_ORDERS = ("RGB", "BGR")
SUFFIXES = {
    "torchvision": (".pth", ".pt", ".safetensors"),
    "timm": (".safetensors", ".pth", ".pt"),
    "detectron2": (".pkl", ".pth"),
    "resdet": (".safetensors",),
}
TARGETS = tuple(SUFFIXES)

# Commands that take files, and KEY VALUE pairs behind them.
FILES_BEFORE_KEYS = ("detect", "visualize")


def _preset_names(prefix: str, **_: Any) -> list[str]:
    """For the shell; where none fits, bash completes file names."""
    return [name for name in presets.names() if name.startswith(prefix)]


def _config(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(
            "it is empty; name a file or a preset, or leave the option out"
        )
    return text


def accept(parser: argparse.ArgumentParser, metavar: str = "RULE=COUNT", more: str = "") -> None:
    """--accept, of every command that refuses results by the checks of `resdet.evaluation`."""
    parser.add_argument(
        "--accept", action="append", default=[], metavar=metavar,
        help="score results that the checks refuse: exactly COUNT faults of the kind RULE, which "
        f"the page of the refusal names{more}; may be given several times",
    )  # fmt: skip


def image_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-ids", choices=IMAGE_IDS, default=IMAGE_IDS[0],
        help="what image_id is in the results: the set's own ids (exact), the stem or the name of "
        "the file, or the number that a text has (exact)",
    )  # fmt: skip


def train_det(parser: argparse.ArgumentParser) -> None:
    _instead_of_training(parser)
    _training(parser, "coco_r101")


def train_loc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", action="store_true", help="print what would be done and why; train nothing"
    )
    _training(parser, "imagenet_loc_r101")


def pretrain_cls(parser: argparse.ArgumentParser) -> None:
    _instead_of_training(parser)
    _training(parser, "imagenet_resnet50")


def _instead_of_training(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--explain",
        action="store_true",
        help="print what would be done and why, without the data; train nothing",
    )
    instead.add_argument(
        "--estimate",
        action="store_true",
        help="take a few steps, print the time, memory and disk of the whole, keep nothing",
    )


def _training(parser: argparse.ArgumentParser, example: str) -> None:
    config = parser.add_argument(
        "--config",
        "--config-file",
        dest="config",
        metavar="FILE",
        type=_config,
        help="a path, or the name of a preset, such as " + example,
    )
    # argcomplete looks for this attribute.
    config.completer = _preset_names  # type: ignore[attr-defined]
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=output_folder,
        help="run folder (default: OUTPUT_DIR, else runs/<config>)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        choices=("newest", "auto"),
        metavar="auto",
        help="go on from the newest checkpoint; with auto start where there is nothing to go on "
        "from, so that one command can be repeated until it is done",
    )
    parser.add_argument("--eval-only", action="store_true", help="score, train nothing")
    parser.add_argument(
        "--best",
        action="store_true",
        help="with --eval-only: score the best model that the run kept (TEST.BEST_METRIC), into a "
        "run folder of its own, DIR_best",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="where the time went: a table, and profile.json and profile.svg in the run folder",
    )
    processes(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config keys")


def with_bare_resume(argv: Sequence[str]) -> list[str]:
    """`--resume` before a KEY does not take it for its value; `--resume auto` does."""
    words = list(argv)
    for i, word in enumerate(words):
        if "." in word and word.partition(".")[0].isupper():
            break  # the first KEY: a flag behind it is refused
        if word == "--resume" and words[i + 1 : i + 2] != ["auto"]:
            words[i] = "--resume=newest"
    return words


def processes(parser: argparse.ArgumentParser) -> None:
    """Detectron2's flags for several processes."""
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default=f"tcp://127.0.0.1:{2**15 + os.getuid() % 2**14}")


def detector(parser: argparse.ArgumentParser) -> None:
    """RUN, and which of its models, of the commands that take a detector as it was trained."""
    parser.add_argument(
        "run", type=Path, metavar="RUN",
        help="a folder that train_det wrote, one of its models, or with --config any detector",
    )  # fmt: skip
    parser.add_argument("--best", action="store_true", help="the best model that the run kept")
    parser.add_argument(
        "--config", "--config-file", dest="config", metavar="FILE", type=_config,
        help="of a weight file outside of a run: a path, or the name of a preset",
    ).completer = _preset_names  # type: ignore[attr-defined]  # fmt: skip


def detect(parser: argparse.ArgumentParser) -> None:
    """The arguments of `detect`; docs/commands.md promises them."""
    detector(parser)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE|FOLDER|PATTERN",
        help="files; folders, of which the files with an image's suffix are taken; patterns such "
        "as 'a/**/*.jpg'; at the end KEY VALUE pairs that shall differ from the run")  # fmt: skip
    add(MARK, dest="opts", nargs=argparse.REMAINDER, default=[], help=argparse.SUPPRESS)
    add("--recursive", action="store_true", help="folders with all folders below them")
    add("--classes", type=Path, metavar="FILE",
        help="a class name a line, in the predictor's order, of a file that has none")  # fmt: skip
    add("--score", type=float, metavar="S",
        help="keep detections with this score or more (the run's own threshold)")  # fmt: skip
    add("--top", type=int, metavar="N", help="keep at most so many of each picture")
    add("--output", type=output_file_path, metavar="FILE.json",
        help="COCO's layout with scores; finished pictures are kept beside it, so that the same "
        "command goes on after a stop")  # fmt: skip
    add("--draw", type=output_folder_path, metavar="DIR", help="a JPEG of each picture with boxes")
    add("--draw-score", type=float, metavar="S", help="draw from this score up (0.5)")
    add("--overwrite", action="store_true", help="replace what --output and --draw name")
    add("--accept", metavar="refused=N",
        help="exactly N pictures may be refused; without it any ends with 1")  # fmt: skip
    _json(parser)


def convert_weights(parser: argparse.ArgumentParser) -> None:
    """The arguments of `convert_weights`; docs/commands.md promises them."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="{inspect,convert,card,export,push}"
    )
    inspect = actions.add_parser(
        "inspect", help="origin, net, conventions, health, what it loads into", allow_abbrev=False
    )
    inspect.add_argument("file", type=Path, metavar="FILE", help="any weight file")
    inspect.add_argument(
        "--images", type=Path, metavar="DIR", help="labelled images: class folders, or CIFAR's "
        "binary files; tries every colour order, range and stride rule on them",
    )  # fmt: skip
    inspect.add_argument(
        "--classes", type=Path, metavar="FILE", help="a line per output, in order: the name of its "
        "class folder first or after a number (DIR/synsets.txt where it is there)",
    )  # fmt: skip
    _part(inspect)
    _json(inspect)
    conversion = actions.add_parser(
        "convert", help="write it for another framework, with parity", allow_abbrev=False
    )
    add = conversion.add_argument
    add("file", type=Path, metavar="FILE", help="any weight file that inspect calls loadable")
    add("--to", choices=TARGETS, required=True, help="whose names, layouts and container")
    add(
        "-o", "--output", type=output_file_path, required=True, metavar="OUT",
        help="; ".join(f"{t}: {', '.join(s)}" for t, s in SUFFIXES.items()),
    )  # fmt: skip
    add("--color", choices=COLOR_ORDERS, help="turn the first layer and the card to this order")
    _part(conversion)
    _json(conversion)
    card = actions.add_parser(
        "card", help="state once what a file does not contain; kept beside it", allow_abbrev=False
    )
    add = card.add_argument
    add("file", type=Path, metavar="FILE", help="a file without a card; FILE.card.json is written")
    add("--net", metavar="NAME", help="a net of timm, timm:NAME: its tensors are called as there")
    add("--color", choices=COLOR_ORDERS, help="colour order of the images it was trained on")
    add("--mean", type=float, nargs=3, metavar="M", help="per channel in that order, of 0 to 255")
    add("--std", type=float, nargs=3, metavar="S", help="per channel in that order, of 0 to 255")
    add("--stride", choices=("1x1", "3x3"), help="where a bottleneck has its stride")
    add("--size", type=int, metavar="PIXELS", help="side of its crops (224)")
    _part(card)
    _json(card)

    exporting = actions.add_parser(
        "export", help="an ONNX file, checked with onnxruntime", allow_abbrev=False
    )
    export(exporting)
    pushing = actions.add_parser(
        "push", help="a repository of Hugging Face's hub: a folder, and an upload when asked",
        allow_abbrev=False,
    )  # fmt: skip
    add = pushing.add_argument
    add("file", type=Path, metavar="FILE", help="any weight file that inspect calls loadable")
    add("address", metavar="hf://OWNER/REPO", help="where it goes")
    add("-o", "--output", type=Path, metavar="DIR",
        help="the folder to write, not there yet (default: hub/OWNER--REPO)")  # fmt: skip
    add(
        "--license",
        default="",
        metavar="ID",
        help="of the weights, as the hub calls it: apache-2.0",
    )
    add("--upload", action="store_true", help="put it onto the hub, too")
    add("--private", action="store_true", help="make a new repository a private one")
    _part(pushing)
    _json(pushing)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--part",
        metavar="PART",
        help="of a file with several nets: a key (model_ema) or a prefix of names (encoder_q.)",
    )


def export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FILE|RUN", help="a weight file; a run folder for its detector"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=output_file_or_folder,
        metavar="OUT.onnx",
        help="the file to write; of a run's detector also the folder for it",
    )
    parser.add_argument(
        "--backbone",
        nargs="?",
        const="",
        metavar="STAGE",
        help="the stages up to STAGE (default: the one that detectors share), not the classifier",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="side, or height and width, of the images (default: the card's for a classifier, "
        "any for a backbone)",
    )
    parser.add_argument(
        "--normalised-input",
        action="store_true",
        help="leave (pixel - mean) / std out of the file: the input has it done",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        metavar="S",
        help="detector: what a detection must exceed (default: as in the run)",
    )
    _part(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


BY_COMMAND = {
    "detect": detect,
    "convert_weights": convert_weights,
    "pretrain_cls": pretrain_cls,
    "train_det": train_det,
    "train_loc": train_loc,
    "rank": rank,
}
