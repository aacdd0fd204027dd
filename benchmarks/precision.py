"""What ENGINE.BF16 and ENGINE.CHANNELS_LAST gain in classification training on this device.

    python -m benchmarks.precision [--net resnet18] [--side 224] [--batch 32] [--rounds 5]

The settings take turns, step by step, on one net and one batch of noise; the median of each is
compared with float32. Before, one step of each from the same weights: the losses must agree to
the bound of bfloat16's eight bits, or the run stops.

Not for: data loading, or whole runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from resdet import nets
from resdet.engine.precision import Precision

# bfloat16 rounds to 2^-8; what a whole net makes of that stays below a few times as much.
LOSS_BOUND = 0.05


def settings(device: str) -> dict[str, Precision]:
    return {
        "float32": Precision(device),
        "channels_last": Precision(device, channels_last=True),
        "bf16": Precision(device, bf16=True),
        "bf16, channels_last": Precision(device, bf16=True, channels_last=True),
    }


class Trained:
    """A net that takes steps in one setting; every one starts from the same weights."""

    def __init__(self, name: str, precision: Precision):
        torch.manual_seed(0)
        self.net = nets.build(name, 1000).to(precision.device).train()
        if precision.channels_last:
            self.net.to(memory_format=torch.channels_last)
        self.precision = precision
        self.optimizer = torch.optim.SGD(self.net.parameters(), 1e-4, momentum=0.9)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """Loss and seconds of one step."""
        start = time.perf_counter()
        with self.precision.autocast():
            logits = self.net(self.precision.input(images))
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        value = loss.item()  # waits for the device
        return value, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="resnet18", choices=nets.names())
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(args.batch, 3, args.side, args.side, device=device)
    labels = torch.randint(1000, (args.batch,), device=device)
    trained = {name: Trained(args.net, p) for name, p in settings(device).items()}
    losses = {name: t.step(images, labels)[0] for name, t in trained.items()}
    for name, loss in losses.items():
        if abs(loss - losses["float32"]) > LOSS_BOUND * abs(losses["float32"]):
            print(f"{name} has loss {loss:.4f}, float32 {losses['float32']:.4f}: not the same net")
            return 1
    seconds: dict[str, list[float]] = {name: [] for name in trained}
    for _ in range(args.rounds):
        for name, t in trained.items():
            seconds[name].append(t.step(images, labels)[1])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    capability = torch.backends.cpu.get_cpu_capability() if device == "cpu" else ""
    print(
        f"{args.net}, {args.side} x {args.side}, batch {args.batch}, {device} {capability}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for name, values in seconds.items():
        ratio = middle["float32"] / middle[name]
        spread = f"{min(values):.3f} to {max(values):.3f} s"
        print(f"{name:20} {args.batch / middle[name]:8.1f} images/s   x{ratio:.2f}   {spread}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
