"""A detector with the test-time improvements of the paper's table 9 around it, each by one key.

    TEST.BOX_REFINEMENT   regions are pooled a second time, boxes vote (`refinement`)
    TEST.SCALES           regions are pooled from two sizes of a pyramid (`scales`)
    TEST.ENSEMBLE         further detectors propose and classify with this one (`ensemble`)

With all of them off nothing here runs. Images are tested one at a time: what is computed for one
does not depend on others that would be padded with it.

Not for: training, or how each improvement works (its module).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Instances
from torch import nn

from resdet.detect.architecture.region_heads import whole_image, with_context
from resdet.detect.paper.detector_parts import DetectorParts, ImageMaps
from resdet.detect.paper.ensemble import average, in_order, union
from resdet.detect.paper.image_views import PYRAMID, VIEWS
from resdet.detect.paper.refinement import refined_regions, voted
from resdet.detect.paper.scales import on_size, pooled_features
from resdet.errors import ConfigError

Result = TypeVar("Result")
Size = tuple[int, int]


@dataclass(frozen=True)
class Improvements:
    """What is done at test time beyond one pass; the default is nothing.

    Attributes:
        refinement: TEST.BOX_REFINEMENT.
        scales: TEST.SCALES, shorter sides in pixels, rising.
        ensemble: TEST.ENSEMBLE, what the further members are read from.
    """

    refinement: bool = False
    scales: tuple[int, ...] = ()
    ensemble: tuple[str, ...] = ()

    @classmethod
    def of_config(cls, cfg: Any) -> Improvements:
        """Those of the TEST keys.

        Raises:
            ConfigError: images are to be tested several at a time, or a key is stated that nothing
                reads.
        """
        if cfg.TEST.SCALES_MAX_SIZE and not cfg.TEST.SCALES:
            raise ConfigError(
                f"TEST.SCALES_MAX_SIZE is {cfg.TEST.SCALES_MAX_SIZE}, which is read with "
                "TEST.SCALES alone. Set both, or leave it out."
            )
        options = cls(
            refinement=cfg.TEST.BOX_REFINEMENT == "on",
            scales=tuple(cfg.TEST.SCALES),
            ensemble=tuple(cfg.TEST.ENSEMBLE),
        )
        if options and cfg.TEST.IMS_PER_BATCH > 1:
            raise ConfigError(
                f"TEST.IMS_PER_BATCH is {cfg.TEST.IMS_PER_BATCH}, but with "
                f"{', '.join(options.off)} images are tested one at a time. Set TEST.IMS_PER_BATCH "
                "1."
            )
        return options

    def __bool__(self) -> bool:
        return self != Improvements()

    @property
    def off(self) -> dict[str, str]:
        """The keys that are on, and what switches each off, as it is typed."""
        keys = {
            "TEST.BOX_REFINEMENT": (self.refinement, "off"),
            "TEST.SCALES": (self.scales, '"()"'),
            "TEST.ENSEMBLE": (self.ensemble, '"()"'),
        }
        return {key: off for key, (value, off) in keys.items() if value}


class ImageResults:
    """What was computed for one image, so that detectors that share models share it, too."""

    def __init__(self) -> None:
        self._results: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Result]) -> Result:
        if key not in self._results:
            self._results[key] = compute()
        result: Result = self._results[key]
        return result


@dataclass(frozen=True)
class EnsembleMember:
    """One detector of an ensemble, or the only one.

    Attributes:
        view: place of its images among the views of an input (`image_views`).
        order: for each class of the first member its place in this one's.
    """

    parts: DetectorParts
    view: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class DetectionPath:
    """How the detections in one image came about; boxes in pixels of the first member's input.

    Attributes:
        size: (height, width) of that input. levels: sizes that regions are pooled from, rising, of
            the first member.
        blocks: of each member what it proposes and no earlier one does, (R_i, 4).
        scores, boxes: (R + Q, K + 1) and (R + Q, 4 K) or (R + Q, 4), what is predicted for the R
            proposals, then for the refined regions.
        refined: (Q, 4), the regions of the second round; None where TEST.BOX_REFINEMENT is off.
        kept: (D, 4), the boxes that NMS keeps, before votes. rows: (D,) their rows of `scores`.
        detections: boxes, scores and classes, of `size`.
    """

    size: Size
    levels: tuple[Size, ...]
    blocks: tuple[torch.Tensor, ...]
    scores: torch.Tensor
    boxes: torch.Tensor
    refined: torch.Tensor | None
    kept: torch.Tensor
    rows: torch.Tensor
    detections: Instances


class ImprovedDetector(nn.Module):
    """A detector's test with improvements. As the detector: a list of inputs to a list of outputs.

    Inputs are those of a `PyramidMapper`; without pyramid and further members also the detector's
    own.

    Args:
        models: the detector, and the further members of an ensemble; trained, or their fast forms;
            not changed.
        improvements: of which the ensemble's names are not looked at.
        orders: for each model and each class of the first its place in the model's; None where all
            have them in one order.
        views: of each model; None: in order.

    Raises:
        ConfigError: a detector has no such steps (`DetectorParts`).
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        improvements: Improvements,
        *,
        orders: Sequence[Sequence[int]] | None = None,
        views: Sequence[int] | None = None,
    ):
        super().__init__()
        self.models = nn.ModuleList(models)
        self.improvements = improvements
        classes = range(int(models[0].roi_heads.num_classes))  # type: ignore[union-attr, arg-type]
        self.members = [
            EnsembleMember(
                DetectorParts(model),
                views[number] if views is not None else number,
                tuple(orders[number] if orders is not None else classes),
            )
            for number, model in enumerate(models)
        ]

    def forward(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """As `GeneralizedRCNN.inference`: boxes in pixels of the original image."""
        return [{"instances": self.detect(given, ImageResults())} for given in batch]

    def detect(self, given: dict[str, Any], done: ImageResults) -> Instances:
        """The detections in one image.

        Args:
            done: of this image, by any `ImprovedDetector`; results of this one are added.
        """
        path, first = self.path(given, done), self.members[0]
        maps = self._maps(first, self._view(given, first)["image"], done)
        detections = first.parts.other_outputs(maps, path.detections)
        height, width = given.get("height", path.size[0]), given.get("width", path.size[1])
        return detector_postprocess(detections, height, width)

    def path(self, given: dict[str, Any], done: ImageResults) -> DetectionPath:
        """All steps up to the boxes, with what each of them gives; `done` as for `detect`."""
        first = self.members[0]
        size = self._maps(first, self._view(given, first)["image"], done).size
        proposals = [self._proposals(member, given, size, done) for member in self.members]
        blocks = union(proposals)
        scores, boxes = self._first_round(blocks, proposals, size, given, done)
        refined = None
        if self.improvements.refinement:
            refined = refined_regions(scores, boxes, size)
            again = self._classified(refined, size, given, done)
            scores, boxes = torch.cat([scores, again[0]]), torch.cat([boxes, again[1]])
        predictor = first.parts.heads.box_predictor
        threshold = predictor.test_score_thresh
        detections, rows = fast_rcnn_inference_single_image(
            boxes,
            scores,
            size,
            threshold,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        kept = detections.pred_boxes.tensor
        if self.improvements.refinement:
            detections = voted(detections, scores, boxes, threshold)
        levels = tuple(level.size for level in self._levels(first, given, done))
        return DetectionPath(
            size, levels, tuple(blocks), scores, boxes, refined, kept, rows, detections
        )

    def _first_round(
        self,
        blocks: Sequence[torch.Tensor],
        proposals: Sequence[torch.Tensor],
        size: Size,
        given: dict[str, Any],
        done: ImageResults,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The proposals of each member by themselves, so that what another detector around these
        models has predicted for them is taken from there.

        Args:
            blocks: of `proposals`, what is new in each.
        """
        parts = []
        for block, every, source in zip(blocks, proposals, self.members, strict=True):
            if len(block) or source is self.members[0]:
                key = ("of", id(source.parts.model)) if len(block) == len(every) else None
                parts.append(self._classified(block, size, given, done, key))
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _classified(
        self,
        regions: torch.Tensor,
        size: Size,
        given: dict[str, Any],
        done: ImageResults,
        key: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (R, K + 1) and boxes (R, 4 K) of the regions, averaged over the members.

        Args:
            key: names regions that are the same for every detector around these models.
        """
        scores, boxes = [], []
        for member in self.members:
            levels = self._levels(member, given, done)

            def predicted(
                member: EnsembleMember = member, levels: Sequence[ImageMaps] = levels
            ) -> tuple[torch.Tensor, torch.Tensor]:
                features = _predictor_input(member.parts, regions, size, levels)
                return member.parts.predict(features, regions, size)

            if key is None:
                found = predicted()
            else:
                sizes = (size, *(level.size for level in levels))
                found = done.once((key, id(member.parts.model), sizes), predicted)
            found = in_order(*found, member.order)
            scores.append(found[0])
            boxes.append(found[1])
        return average(scores, boxes)

    def _view(self, given: dict[str, Any], member: EnsembleMember) -> dict[str, Any]:
        view: dict[str, Any] = given[VIEWS][member.view] if VIEWS in given else given
        return view

    def _maps(self, member: EnsembleMember, image: torch.Tensor, done: ImageResults) -> ImageMaps:
        key = ("maps", id(member.parts.model), tuple(image.shape))
        return done.once(key, lambda: member.parts.maps(image))

    def _proposals(
        self, member: EnsembleMember, given: dict[str, Any], size: Size, done: ImageResults
    ) -> torch.Tensor:
        """In pixels of an image of `size`."""
        maps = self._maps(member, self._view(given, member)["image"], done)
        key = ("proposals", id(member.parts.model))
        boxes = done.once(key, lambda: member.parts.proposals(maps))
        return on_size(boxes, maps.size, size)

    def _levels(
        self, member: EnsembleMember, given: dict[str, Any], done: ImageResults
    ) -> list[ImageMaps]:
        """What regions are pooled from: the pyramid by rising size, or the test's size alone."""
        view = self._view(given, member)
        if not self.improvements.scales:
            return [self._maps(member, view["image"], done)]
        # Two scales may give one size, where the longest side limits both.
        images = {tuple(image.shape): image for image in view[PYRAMID]}
        return [self._maps(member, images[shape], done) for shape in sorted(images)]


def _predictor_input(
    parts: DetectorParts, regions: torch.Tensor, size: Size, levels: Sequence[ImageMaps]
) -> torch.Tensor:
    """(R, D) features of regions; with context the whole image is one more of them, (R, 2 D)."""
    if not parts.has_context:
        return pooled_features(parts, regions, size, levels)
    every = torch.cat([regions, whole_image(regions, size)])
    return with_context(pooled_features(parts, every, size, levels))
