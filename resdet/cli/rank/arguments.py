"""Arguments of `rank`; imports no torch.

Not for: what they do (`command`).
"""

from __future__ import annotations

import argparse

from resdet.cli.output_paths import output_folder

# Without a budget.
STEPS, IMAGES, TEST_IMAGES = 300, 2000, 1000
SIZE = 320
SEEDS = 2
CACHE_GB = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbones",
        nargs="+",
        metavar="B",
        help="run folders of pretrain_cls, files or addresses of weights, random:NET; NAME=B "
        "names a row",
    )
    parser.add_argument("--data", metavar="SET", help="the set that trains the heads")
    parser.add_argument(
        "--test", metavar="SET", help="the set that is scored (default: a fifth of --data)"
    )
    parser.add_argument(
        "--add", nargs="+", metavar="B", default=[], help="further rows of a ranking that is there"
    )
    parser.add_argument(
        "--budget", metavar="TIME", help="such as 15m or 2h: steps and images follow from it"
    )
    parser.add_argument(
        "--recipe",
        choices=("frozen",),
        default="frozen",
        help="what trains (docs/recipes.md): frozen, the heads alone",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=output_folder, help="the ranking (default: runs/rank_SET)"
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS",
        help=f"side of the images, a multiple of 32 (default: {SIZE}, less for smaller images)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="N", help=f"of the heads (default: {STEPS})")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"trainings of each backbone (default: {SEEDS})"
    )
    parser.add_argument(
        "--images", type=int, metavar="N",
        help=f"that train, drawn evenly; 0: all (default: {IMAGES:,})",
    )  # fmt: skip
    parser.add_argument(
        "--test-images", type=int, metavar="N",
        help=f"that are scored; 0: all (default: {TEST_IMAGES:,})",
    )  # fmt: skip
    parser.add_argument(
        "--cache-gb", type=float, default=CACHE_GB, metavar="GB",
        help=f"room for maps (default: {CACHE_GB:g}); what does not fit is removed after its row",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N",
        help="rows side by side (default: one per core, at most 4; 1 on a GPU)",
    )  # fmt: skip
    parser.add_argument(
        "--full", nargs="+", metavar="NAME=RUN", default=[],
        help="full trainings of some of the backbones, to see how far the ranking can be trusted",
    )  # fmt: skip
    parser.add_argument(
        "--finalists", nargs="?", type=int, const=0, metavar="N",
        help="then train the first N rows (without a number: the first group) in full, under "
        "--config, with the keys given here",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="the detector of the finalists")
    parser.add_argument("--json", action="store_true", help="the leaderboard as JSON")
    parser.add_argument("--part", nargs=2, metavar=("PART", "LABEL"), help=argparse.SUPPRESS)
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help=argparse.SUPPRESS
    )
