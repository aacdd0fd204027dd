"""Detecting with stock Detectron2 against `resdet.detect.fast`: R-50-C4 or R-101-C4, one image.

    python -m benchmarks.detection_inference [--depth 50 101] [--proposals 300 1000] [--rounds 3]

Both have the same random weights, tamed so that all proposals survive; 600 x 900 pixels of noise.
They take turns, image by image, and the median of each is compared. The detections of both must
match: boxes within 0.1 px and scores within 1e-3 in float32; how many do is printed, and for bf16
how far the scores of the regions lie apart.

Not for: a GPU; its clock needs events.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

import resdet.detect  # noqa: F401 registers
from benchmarks.apart import forget_peak, peaks_of, print_peak
from benchmarks.claims import Claim, add_arguments, report, rows
from resdet.config import get_cfg, resolve
from resdet.detect.command import fill_from_weights_and_net
from resdet.detect.fast import fast

MODULE = "benchmarks.detection_inference"
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MOST_PIXELS, MOST_SCORE, MOST_SCORE_BF16 = 0.1, 1e-3, 1e-2


def pair(depth: int, keys: list[str]) -> tuple[nn.Module, nn.Module]:
    """Stock Detectron2 and our detector with one set of tamed random weights.

    Args:
        depth: 50 or 101. keys: config keys and values of both.
    """
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "random", *keys]
    config = resolve(CONFIGS / f"coco_r{depth}_modern.yaml", opts)
    fill_from_weights_and_net(config, None)
    torch.manual_seed(0)
    ours = build_model(config.cfg)
    for name, module in ours.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            # Without this the maps of a random net grow until no box is finite.
            module.weight.fill_(0.2 if name.endswith("conv3.norm") else 0.7)
    cfg = get_cfg()
    schedule = "1x" if depth == 50 else "3x"
    zoo = f"COCO-Detection/faster_rcnn_R_{depth}_C4_{schedule}.yaml"
    cfg.merge_from_file(model_zoo.get_config_file(zoo))
    cfg.merge_from_list(opts)
    stock = build_model(cfg)
    stock.load_state_dict(ours.state_dict())
    return stock, ours


def models(depth: int, proposals: int) -> dict[str, nn.Module]:
    """Stock and fast ones for detecting; so many proposals survive."""
    keys = ["MODEL.RPN.NMS_THRESH", "1.0", "MODEL.RPN.POST_NMS_TOPK_TEST", str(proposals),
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]  # fmt: skip
    stock, ours = (model.eval() for model in pair(depth, keys))
    return {"stock": stock, "fast": fast(ours), "fast, bf16": fast(ours, bf16=True)}


def matched(one: Any, other: Any) -> tuple[int, int]:
    """How many detections of the first have a twin in the second, and the larger number of both."""
    apart = (one.pred_boxes.tensor[:, None] - other.pred_boxes.tensor[None]).abs().amax(2)
    same = (apart < MOST_PIXELS) & (one.pred_classes[:, None] == other.pred_classes[None])
    same &= (one.scores[:, None] - other.scores[None]).abs() < MOST_SCORE
    return int(same.any(1).sum()), max(len(one), len(other))


def image_of_noise() -> list[dict[str, Any]]:
    """One image as the models take it; not resized again by anyone."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 600, 900), generator=generator, dtype=torch.uint8)
    return [{"image": image, "height": 600, "width": 900}]


def measure(depth: int, proposals: int, rounds: int, *, with_memory: bool) -> Claim:
    every, batch = models(depth, proposals), image_of_noise()
    seconds: dict[str, list[float]] = {name: [] for name in every}
    found = {}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, model in every.items():
                start = time.perf_counter()
                found[name] = model(batch)[0]["instances"]
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    same, of = matched(found["stock"], found["fast"])
    half = _sorted_apart(found["stock"], found["fast, bf16"])
    arguments = ("--depth", depth, "--proposals", proposals)
    peaks = peaks_of(MODULE, list(every), *arguments) if with_memory else None
    return Claim(
        f"detecting, R-{depth}-C4, {proposals} proposals",
        "stock Detectron2 against ENGINE.FAST_INFERENCE, one image of 600 x 900",
        rows(seconds, peaks),
        rounds,
        f"{same} of {of} float32 detections within {MOST_PIXELS} px and {MOST_SCORE}; sorted "
        f"scores of bf16 within {half:.2g} (bound {MOST_SCORE_BF16})",
        same == of > 0 and half < MOST_SCORE_BF16,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depth", type=int, nargs="+", choices=(50, 101), default=[50, 101])
    parser.add_argument("--proposals", type=int, nargs="+", default=[300, 1000])
    add_arguments(parser, rounds=3)
    args = parser.parse_args(argv)
    if args.peak_of:
        with torch.no_grad():
            model = models(args.depth[0], args.proposals[0])[args.peak_of]
            forget_peak()
            model(image_of_noise())
        return print_peak()
    cases = [(d, p) for d in args.depth for p in args.proposals]
    rounds = args.rounds
    if args.quick:
        cases, rounds = cases[:1], 1
    return report([measure(*c, rounds, with_memory=not args.quick) for c in cases], args)


def _sorted_apart(one: Any, other: Any) -> float:
    count = min(len(one), len(other))
    first, second = (x.scores.sort(descending=True).values[:count] for x in (one, other))
    return float((first - second).abs().max()) if count else 0.0


if __name__ == "__main__":
    sys.exit(main())
