"""A trained detector in the form in which it detects: fast, and tested as TEST's keys have it.

Not for: what the forms are (`fast`, `paper.tester`), or the loop over images (`inference`).
"""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from resdet.detect.fast.fast_detector import fast, skipped
from resdet.detect.paper.detector_parts import DetectorParts
from resdet.detect.paper.tester import ImprovedDetector, Improvements
from resdet.engine.speed.precision import Precision

logger = logging.getLogger("resdet.detect")


def check_form(model: nn.Module, cfg: Any) -> None:
    """Raises ConfigError where `form_for_detecting` would, before a training."""
    if Improvements.of_config(cfg).any:
        DetectorParts(model)


def form_for_detecting(model: nn.Module, cfg: Any) -> nn.Module:
    """The model itself with all such keys off.

    With ENGINE.FAST_INFERENCE on its fast form, a copy; with the test-time improvements of the
    paper's table 9 whichever of the two inside an `ImprovedDetector`.

    Raises:
        ConfigError: the improvements that are on do not fit each other, or this detector.
    """
    if cfg.ENGINE.FAST_INFERENCE == "on":
        for sentence in skipped(model):
            logger.warning("ENGINE.FAST_INFERENCE: %s", sentence)
        model = fast(model, bf16=Precision.of_config(cfg).bf16)
    improvements = Improvements.of_config(cfg)
    return ImprovedDetector(model, improvements) if improvements.any else model
