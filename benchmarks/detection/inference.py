"""Detecting with stock Detectron2 against `resdet.detect.fast.fast_detector`, one image.

    python -m benchmarks.detection.inference [--net R-50-C4 …] [--proposals 300 1000] [--rounds 3]

Both have the same random weights (`detectors`), and all proposals are kept. They take turns, image
by image, and the median of each is compared. The detections of both must match: boxes within
0.1 px and scores within 1e-3 in float32; how many do is printed, and for bf16, which orders
regions otherwise, how far the sorted scores lie apart.

Not for: a GPU (`benchmarks.gpu`).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

import torch
from torch import nn

from benchmarks.apart import forget_peak, peaks_of, print_peak
from benchmarks.claims import Claim, add_arguments, report, rows
from benchmarks.detection.detectors import NETS, image_of_noise, pair, peer_of
from resdet.detect.fast.fast_detector import fast

MODULE = "benchmarks.detection.inference"
# Nets, and how many proposals.
CASES = (
    ("R-50-C4", 300),
    ("R-50-C4", 1000),
    ("R-101-C4", 300),
    ("R-101-C4", 1000),
    ("R-50-FPN", 1000),
    ("VGG-16", 300),
)
MOST_PIXELS, MOST_SCORE = 0.1, 1e-3
# Of bf16, as a share of the spread of the peer's scores: features without information give over 1.
MOST_OF_SPREAD = 0.3


def keys(proposals: int) -> list[str]:
    """So many proposals are kept, and every detection of them."""
    return ["MODEL.RPN.NMS_THRESH", "1.0", "MODEL.RPN.POST_NMS_TOPK_TEST", str(proposals),
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]  # fmt: skip


def models(net: str, proposals: int, only: str | None = None) -> dict[str, nn.Module]:
    """The peer and fast ones for detecting, by name, or one of them; so many proposals are kept."""
    peer, ours = (model.eval() for model in pair(net, keys(proposals)))
    made = {
        peer_of(net): lambda: peer,
        "fast": lambda: fast(ours),
        "fast, bf16": lambda: fast(ours, bf16=True),
    }
    return {name: make() for name, make in made.items() if only in (None, name)}


def matched(one: Any, other: Any) -> tuple[int, int]:
    """How many detections of the first match one of the second, and the larger number of both."""
    apart = (one.pred_boxes.tensor[:, None] - other.pred_boxes.tensor[None]).abs().amax(2)
    same = (apart < MOST_PIXELS) & (one.pred_classes[:, None] == other.pred_classes[None])
    same &= (one.scores[:, None] - other.scores[None]).abs() < MOST_SCORE
    return int(same.any(1).sum()), max(len(one), len(other))


def measure(net: str, proposals: int, rounds: int, *, with_memory: bool) -> Claim:
    every, batch = models(net, proposals), image_of_noise()
    seconds: dict[str, list[float]] = {name: [] for name in every}
    instances = {}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, model in every.items():
                start = time.perf_counter()
                instances[name] = model(batch)[0]["instances"]
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    same, of = matched(instances[peer_of(net)], instances["fast"])
    half = sorted_apart(instances[peer_of(net)], instances["fast, bf16"])
    arguments = ("--net", net, "--proposals", proposals)
    peaks = peaks_of(MODULE, list(every), *arguments) if with_memory else None
    return Claim(
        f"detecting, {net}, {proposals} proposals",
        f"{peer_of(net)} against ENGINE.FAST_INFERENCE, one image of 600 x 900",
        rows(seconds, peaks),
        rounds,
        f"{same} of {of} float32 detections within {MOST_PIXELS} px and {MOST_SCORE}; sorted "
        f"scores of bf16 within {half:.1%} of their spread (bound {MOST_OF_SPREAD:.0%})",
        same == of > 0 and half < MOST_OF_SPREAD,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, default=sorted({c[0] for c in CASES}))
    parser.add_argument("--proposals", type=int, nargs="+", help="default: as suits each net")
    add_arguments(parser, rounds=3)
    args = parser.parse_args(argv)
    if args.peak_of:
        with torch.no_grad():
            model = models(args.net[0], args.proposals[0], args.peak_of)[args.peak_of]
            forget_peak()
            model(image_of_noise())
        return print_peak()
    cases = [case for case in CASES if case[0] in args.net]
    if args.proposals:
        cases = [(net, number) for net in args.net for number in args.proposals]
    rounds = args.rounds
    if args.quick:
        cases, rounds = cases[:1], 1
    return report([measure(*c, rounds, with_memory=not args.quick) for c in cases], args)


def sorted_apart(one: Any, other: Any) -> float:
    """As a share of the spread of the first; infinite where one has detections that the other has
    not."""
    if not len(one) == len(other) > 0:
        return math.inf
    first, second = (x.scores.sort(descending=True).values for x in (one, other))
    return float((first - second).abs().max() / (first[0] - first[-1]))


if __name__ == "__main__":
    sys.exit(main())
