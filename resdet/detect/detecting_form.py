"""A trained detector in the form in which it detects: fast, and tested as TEST's keys have it.

Not for: what the forms are (`fast`, `paper.tester`), or the loop over images (`inference`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from resdet.data.images.reader import ImageReader
from resdet.detect.fast.fast_detector import fast, skipped
from resdet.detect.loading import Mapper
from resdet.detect.paper.detector_parts import DetectorParts
from resdet.detect.paper.image_views import MemberView, PyramidMapper, longest_side
from resdet.detect.paper.tester import ImprovedDetector, Improvements
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError

if TYPE_CHECKING:
    from resdet.detect.alternating.proposal_source import ProposalSource

logger = logging.getLogger("resdet.detect")


class FurtherDetector(Protocol):
    """A member of an ensemble, as `from_run` builds it."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def cfg(self) -> Any: ...


def check_form(model: nn.Module, cfg: Any) -> None:
    """Raises ConfigError for most of what `form_for_detecting` refuses, before a training."""
    improvements = Improvements.of_config(cfg)
    if improvements:
        DetectorParts(model)
    for scale in improvements.scales:
        longest_side(cfg, scale)
    if missing := [path for path in improvements.ensemble if not Path(path).exists()]:
        raise ConfigError(
            f"TEST.ENSEMBLE names {', '.join(missing)}, which does not exist. Name run folders of "
            "detectors, or files of models in them."
        )


def form_for_detecting(
    model: nn.Module,
    cfg: Any,
    members: Sequence[FurtherDetector] = (),
    orders: Sequence[Sequence[int]] | None = None,
) -> nn.Module:
    """The model itself with all such keys off.

    With ENGINE.FAST_INFERENCE on its fast form, a copy; with the test-time improvements of the
    paper's table 9 whichever of the two inside an `ImprovedDetector`.

    Args:
        members: of TEST.ENSEMBLE. orders: for the model and each member, as `ImprovedDetector`.

    Raises:
        ConfigError: the improvements that are on do not fit each other, or a detector.
    """
    improvements = Improvements.of_config(cfg)
    if not improvements:
        return as_stated(model, cfg)
    models = [as_stated(one, cfg) for one in (model, *(member.model for member in members))]
    return ImprovedDetector(models, improvements, orders=orders)


def as_stated(model: nn.Module, cfg: Any) -> nn.Module:
    """The model, or its fast form where ENGINE.FAST_INFERENCE is on."""
    if cfg.ENGINE.FAST_INFERENCE != "on":
        return model
    for sentence in skipped(model):
        logger.warning("ENGINE.FAST_INFERENCE: %s", sentence)
    return fast(model, bf16=Precision.of_config(cfg).bf16)


def mapper_for_detecting(
    cfg: Any,
    reader: ImageReader,
    members: Sequence[FurtherDetector] = (),
    proposals: ProposalSource | None = None,
) -> Mapper | PyramidMapper:
    """A record to what `form_for_detecting` takes.

    Args:
        proposals: of a file, for a detector that makes none (MODEL.LOAD_PROPOSALS).
    """
    improvements = Improvements.of_config(cfg)
    if not improvements.scales and not members:
        return Mapper.of(cfg, reader, False, proposals)
    configs = [cfg, *(member.cfg for member in members)]
    return PyramidMapper(
        [MemberView(one, improvements.scales, rule=cfg) for one in configs], reader
    )
