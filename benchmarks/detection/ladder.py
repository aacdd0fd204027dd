"""The rows of table 9 in one pass (`compare --ladder`) against each of them apart, one image.

    python -m benchmarks.detection.ladder [--nets R-50-FPN VGG-16-FPN] [--size 600 900] [--rounds 1]
                                          [--processor]

Two detectors with random weights: baseline, + box refinement, + multi-scale testing (the paper's
pyramid), the second one alone, and both as an ensemble. Apart, each row resizes, runs trunks, RPN
and regions for itself; in the pass what rows share is computed once. Both take turns, and give the
same detections to the bit. What is left out is what a command costs beside (starting, reading
weights, scoring), which rows apart pay once each.

How much is shared depends on where the time goes. Trunks run once a size, whatever the number of
rows; regions of a second round, and those of other members, are of one row alone.

Not for: a GPU, or what a row is worth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.claims import Claim, add_arguments, report, rows
from benchmarks.detection.detectors import NETS, our_detector
from resdet.data import DataOptions
from resdet.data.images.reader import ImageReader
from resdet.detect.paper.image_views import MemberView, PyramidMapper
from resdet.detect.paper.tester import ImageResults, ImprovedDetector, Improvements

CASES = (("R-50-FPN", "VGG-16-FPN"), ("R-50-C4", "VGG-16"))
SHARES = (200 / 600, 400 / 600, 1, 800 / 600, 1000 / 600)


class TimedRow:
    """One row: what it resizes for itself, and its detector."""

    def __init__(self, name: str, used: Sequence[int], built: Sequence[Any], scales: Any = ()):
        self.name = name
        self.scales = tuple(scales)
        refined = name != "baseline"
        models, configs = ([built[place][part] for place in used] for part in (0, 1))
        options = Improvements(refinement=refined, scales=self.scales)
        self.apart = ImprovedDetector(models, options).eval()
        self.shared = ImprovedDetector(models, options, views=used).eval()
        views = [MemberView(cfg, self.scales, rule=configs[0]) for cfg in configs]
        self.mapper = PyramidMapper(views, ImageReader(DataOptions()))


def measure(
    nets: Sequence[str],
    size: tuple[int, int],
    rounds: int,
    width: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Claim:
    keys = ["INPUT.MIN_SIZE_TEST", str(min(size)), "INPUT.MAX_SIZE_TEST", str(2 * max(size)),
            "MODEL.RPN.POST_NMS_TOPK_TEST", "300"]  # fmt: skip
    built = [our_detector(net, keys, width=width) for net in nets]
    scales = [round(share * min(size)) for share in SHARES]
    table = [
        TimedRow("baseline", [0], built),
        TimedRow("refinement", [0], built),
        TimedRow("scales", [0], built, scales),
        TimedRow("member", [1], built, scales),
        TimedRow("ensemble", [0, 1], built, scales),
    ]
    views = [MemberView(cfg, scales, rule=built[0][1]) for _, cfg in built]
    every = PyramidMapper(views, ImageReader(DataOptions()))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    record = {"height": size[0], "width": size[1]}
    seconds: dict[str, list[float]] = {"apart": [], "one pass": []}
    same = True
    with torch.no_grad():
        for _ in range(rounds):
            start = clock()
            apart = [r.apart([r.mapper.of_image(record, image)])[0]["instances"] for r in table]
            seconds["apart"].append(clock() - start)
            start = clock()
            shared, given = ImageResults(), every.of_image(record, image)
            together = [row.shared.detect(given, shared) for row in table]
            seconds["one pass"].append(clock() - start)
            same &= all(map(equal, apart, together))
    found = ", ".join(str(len(one)) for one in together)
    return Claim(
        f"ladder, {' and '.join(nets)}",
        f"{len(table)} rows of table 9, each apart against all in one pass, one image of "
        f"{size[0]} x {size[1]}, 300 proposals{', processor time' * (clock is time.process_time)}",
        rows(seconds),
        rounds,
        f"detections ({found}) to the bit",
        same,
    )


def equal(one: Any, other: Any) -> bool:
    """Whether two results are the same to the bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for a, b in (
            (one.pred_boxes.tensor, other.pred_boxes.tensor),
            (one.scores, other.scores),
            (one.pred_classes, other.pred_classes),
        )
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", nargs=2, choices=NETS, help="default: two pairs")
    parser.add_argument("--size", type=int, nargs=2, default=(600, 900), help="of the image")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels")
    parser.add_argument(
        "--processor", action="store_true", help="seconds of the processor: for a busy machine"
    )
    add_arguments(parser, rounds=1)
    args = parser.parse_args(argv)
    cases = [tuple(args.nets)] if args.nets else list(CASES)
    size, width = tuple(args.size), args.width
    if args.quick:
        cases, size, width = cases[:1], (96, 128), 0.125
    clock = time.process_time if args.processor else time.perf_counter
    return report([measure(c, size, args.rounds, width, clock) for c in cases], args)


if __name__ == "__main__":
    sys.exit(main())
