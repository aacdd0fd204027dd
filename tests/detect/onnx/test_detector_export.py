"""A detector as one ONNX file: Detectron2's own results are the source, onnxruntime the judge."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx
import onnxruntime
from detectron2 import model_zoo
from detectron2.modeling import build_model

from resdet.config import get_cfg, resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.onnx import detector_export, detector_graph
from resdet.engine.speed.precision import Precision
from resdet.errors import CheckFailed, ConfigError, RunError
from resdet.run.folder import Run, write_json
from tests.support import children, tiny, trainings
from tests.support.exporting import export
from tests.support.pages import python_blocks

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
SMALL += ["MODEL.RPN.PRE_NMS_TOPK_TEST", "500", "MODEL.RPN.POST_NMS_TOPK_TEST", "40"]
OURS = [*SMALL, "MODEL.WEIGHTS", "", "MODEL.NET.WIDTH", "0.125", "MODEL.ROI_HEADS.NUM_CLASSES", "5"]


def model_of(kind):
    """C4 with RoIPool (the paper's) or RoIAlign, FPN, and Detectron2's own C4; random weights."""
    torch.manual_seed(0)
    if kind == "stock-C4":
        cfg = get_cfg()
        cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml"))
        words = ["MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 8]
        words += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RPN.PRE_NMS_TOPK_TEST", 500]
        words += ["MODEL.RPN.POST_NMS_TOPK_TEST", 40, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", *words])
    else:
        preset, more = {
            "paper-C4": ("voc07_r101.yaml", ["MODEL.NET.NAME", "resnet18"]),
            "context": ("voc07_r101.yaml", ["MODEL.NET.NAME", "resnet18",
                                            "MODEL.REGION_HEADS.CONTEXT", "True"]),
            "FPN": ("fpn/coco_r50_fpn.yaml", ["MODEL.NET.NAME", "resnet18",
                                              "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
                                              "MODEL.FPN.OUT_CHANNELS", "16"]),
        }[kind]  # fmt: skip
        config = resolve(CONFIGS / preset, [*OURS, *more])
        fill_from_weights_and_net(config, None)
        cfg = config.cfg
    return spread(build_model(cfg).eval())


def spread(model):
    """The predictors scaled on one image, so that boxes move and scores differ, as if trained."""
    expected = {"objectness_logits": 2.0, "anchor_deltas": 0.3, "cls_score": 2.0, "bbox_pred": 1.0}
    seen = set()

    def scale(module, inputs, out):
        if module in seen:  # FPN's RPN head runs once a level
            return out
        seen.add(module)
        over = [d for d in range(out.dim()) if d != 1]
        factor = expected[names[module]] / out.std()
        module.bias.sub_(out.mean(over)).mul_(factor)
        module.weight.mul_(factor)
        return (out - out.mean(over, keepdim=True)) * factor

    names = {m: n.split(".")[-1] for n, m in model.named_modules() if n.split(".")[-1] in expected}
    hooks = [module.register_forward_hook(scale) for module in names]
    with torch.no_grad():
        model([{"image": noise(150, 150, 9)}])
    for hook in hooks:
        hook.remove()
    assert len(seen) == 4
    return model


def noise(height, width, seed=0):
    return torch.randint(
        0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed)
    ).float()


def matched(found, expected):
    """Both sorted by class, then score: equal within docs/export.md's bounds, 0.1 px and 1e-4.

    Rounding takes less than a tenth of both (RESULTS.md: 6e-5 px and 3e-6 on trained detectors).
    """
    assert len(found[1]) == len(expected)
    order = np.lexsort((-found[1], found[2]))
    other = np.lexsort((-expected.scores.numpy(), expected.pred_classes.numpy()))
    assert (found[2][order] == expected.pred_classes.numpy()[other]).all()
    assert np.abs(found[1][order] - expected.scores.numpy()[other]).max() <= 1e-4
    assert np.abs(found[0][order] - expected.pred_boxes.tensor.numpy()[other]).max() <= 0.1


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Kind to model, file, what the export's own check found, and the graph; each made once."""
    cache, convert = {}, detector_export.convert

    def of(kind):
        if kind not in cache:
            model, programs = model_of(kind), []
            path = tmp_path_factory.mktemp("exported") / "detector.onnx"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    detector_export,
                    "convert",
                    lambda *a, **k: programs.append(convert(*a, **k)) or programs[0],
                )
                found = detector_export.write_detector(
                    model, path, [noise(120, 150)], entries={}, what=kind
                )
            cache[kind] = model, path, found, programs[0]
        return cache[kind]

    return of


@pytest.mark.parametrize(
    "kind",
    [
        "paper-C4",
        "context",
        pytest.param("FPN", marks=pytest.mark.slow),
        pytest.param("stock-C4", marks=pytest.mark.slow),
    ],
)
def test_the_file_detects_what_detectron2_detects(kind, exported):
    """Sizes that the export did not see: smaller than its example, wide, tall."""
    model, path, found, _ = exported(kind)
    # The threshold is 0: as many as TEST.DETECTIONS_PER_IMAGE, or as NMS leaves of 40 regions.
    assert 30 < found.detections <= 100
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for seed, size in enumerate([(96, 128), (75, 333), (201, 90)]):
        image = noise(*size, seed)
        with torch.no_grad():
            expected = model([{"image": image}])[0]["instances"]
        assert len(expected.pred_classes.unique()) > 1
        matched(session.run(None, {"image": image[None].numpy()}), expected)
    raw = path.read_bytes()
    assert b".py" not in raw and b"stack_trace" not in raw


@pytest.mark.parametrize("kind", ["paper-C4", "context", "FPN", "stock-C4"])
def test_the_graph_is_detectron2s_to_the_bit(kind):
    """Before any export: what was rewritten between the layers, on torch alone."""
    model = model_of(kind)
    detector = detector_graph.DetectorGraph(model)
    image = noise(130, 170)
    with torch.no_grad():
        boxes, scores, classes = detector(image[None])
        expected = model([{"image": image}])[0]["instances"]
    assert torch.equal(scores, expected.scores)
    assert torch.equal(boxes, expected.pred_boxes.tensor)
    assert torch.equal(classes, expected.pred_classes)


def test_the_graph_leaves_the_precision_of_its_model_alone():
    """Only the function that is named for it changes the shared layers."""
    model = model_of("paper-C4")
    bf16 = Precision("cpu", bf16=True, channels_last=True)
    model.backbone.precision = model.roi_heads.precision = bf16
    detector_graph.DetectorGraph(model)
    assert model.backbone.precision == model.roi_heads.precision == bf16
    detector_graph.set_to_float32(model)
    assert str(model.backbone.precision) == str(model.roi_heads.precision) == "float32"


@pytest.mark.slow
def test_nothing_found_is_an_empty_result_and_proves_nothing(tmp_path, monkeypatch):
    """Detectron2 finds nothing above 0.9999 in noise; onnxruntime agrees, and no file is kept."""
    model = model_of("paper-C4")
    model.roi_heads.box_predictor.test_score_thresh = 0.9999
    compared = []
    measure = detector_export.difference
    monkeypatch.setattr(
        detector_export, "difference", lambda *a, **k: compared.append(a) or measure(*a, **k)
    )
    path = tmp_path / "detector.onnx"
    text = r"finds nothing on the 1 images .* above 0\.9999, .* Give --score-threshold 0\.01, or"
    with pytest.raises(CheckFailed, match=text):
        detector_export.write_detector(model, path, [noise(90, 90)], entries={}, what="it")
    (((boxes, scores, classes), _),) = compared
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))
    assert list(tmp_path.iterdir()) == []


def test_a_detector_that_differs_is_refused(exported, tmp_path, monkeypatch):
    """The file's weights and the detector's differ by one number; no file is left."""
    model, _, _, program = exported("paper-C4")
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[0] += 0.01
    monkeypatch.setattr(detector_export, "convert", lambda *args, **kwargs: program)
    with pytest.raises(CheckFailed, match=r"on an image of 90 x 110 pixels .* onnxruntime "):
        detector_export.write_detector(
            model, tmp_path / "d.onnx", [noise(90, 110)], entries={}, what="it"
        )
    assert list(tmp_path.iterdir()) == []


# -- comparing, by hand -------------------------------------------------------------------------

ONE = (np.array([[0.0, 0, 10, 10], [5, 5, 9, 9]]), np.array([0.9, 0.5]), np.array([1, 2]))


def but(boxes=None, scores=None, classes=None):
    return (
        ONE[0] + np.array(boxes) if boxes is not None else ONE[0],
        np.array(scores) if scores is not None else ONE[1],
        np.array(classes) if classes is not None else ONE[2],
    )


def test_the_difference_is_the_largest_of_all_and_order_does_not_matter():
    found = but(boxes=[[0, 0.0625, 0, 0], [0, 0, 0, -0.03125]], scores=[0.9, 0.50005])
    turned = tuple(part[::-1] for part in found)
    for one in (found, turned):
        got = detector_export.difference(one, ONE, where="x")
        assert (got.detections, got.box) == (2, 0.0625)
        assert got.score == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(but(boxes=[[0, 0, 0.2, 0], [0] * 4]), "differs by 0.2 px", id="box"),
        pytest.param(but(scores=[0.9, 0.4995]), "0 px and 0.0005", id="score"),
        pytest.param(but(classes=[1, 3]), "no detection of that class is left", id="class"),
        pytest.param(tuple(p[:1] for p in ONE), "gives 1 detections, Detectron2 2", id="lost"),
        pytest.param(
            tuple(np.concatenate((p[:1], p[:1])) for p in ONE), "class 2", id="twice-the-same"
        ),
    ],
)  # fmt: skip
def test_what_differs_is_refused_with_the_figures(found, words):
    with pytest.raises(CheckFailed, match=words):
        detector_export.difference(found, ONE, where="x")


# -- what is not known --------------------------------------------------------------------------


def test_parts_of_another_kind_are_refused_by_name():
    """A subclass may compute otherwise, and would be exported as its parent."""

    class OtherHeads(detector_graph.RegionHeads):
        pass

    model = model_of("paper-C4")
    model.roi_heads.__class__ = OtherHeads
    with pytest.raises(ConfigError, match="MODEL.ROI_HEADS.NAME is OtherHeads, expected RegionH"):
        detector_graph.DetectorGraph(model)


# -- a run --------------------------------------------------------------------------------------

CONFIG = trainings.detector(
    trainings.FROM_SCRATCH,
    {
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": None,
        "MODEL.PIXEL_MEAN": [60.0, 70.0, 80.0],
        "INPUT.MIN_SIZE_TEST": 80,
        "SOLVER.BASE_LR": 0.001,
        "SOLVER.MAX_ITER": 1,
    },
)


def _run_block_of_the_page(tmp_path, out, monkeypatch):
    """docs/export.md, as it stands there, on a picture of the set."""
    block = python_blocks("export.md")[1]
    shutil.copy(tmp_path / "voc" / "JPEGImages" / "000004.jpg", out / "photo.jpg")
    monkeypatch.chdir(out)
    exec(compile(block, "docs/export.md", "exec"), {})


def test_the_command_exports_a_run_and_compares_on_its_pictures(tmp_path, capsys, monkeypatch):
    """train_det with its faster parts, then export; what is refused on the way."""
    tiny.voc_tree(tmp_path / "voc", images=6)
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    words = ("--config", "c.yaml", "--output", "run", "ENGINE.FAST_TRAINING", "on")
    done = children.run_cli("train_det", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run, out = tmp_path / "run", tmp_path / "out"
    with pytest.raises(ConfigError, match="--backbone is for weight files"):
        export(run, "-o", out, "--backbone")
    assert export(run, "-o", out, "--score-threshold", "0.0", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["path"] == str(out / "detector.onnx")
    # Three test pictures, 96 x 72 and 72 x 96, with the shorter side made 80; then noise.
    assert (output["pictures"], output["classes"]) == (3, 2)
    assert {tuple(size) for size in output["images"][:3]} <= {(80, 107), (107, 80)}
    assert output["detections"] > 10 and output["box_difference"] < 0.1
    model = onnx.load(out / "detector.onnx")
    entries = {e.key: json.loads(e.value) for e in model.metadata_props}
    assert entries["resdet.classes"] == ["ape", "bee"]
    assert entries["resdet.input"]["mean"] == [60.0, 70.0, 80.0]
    assert entries["resdet.input"]["min_size"] == 80
    assert entries["resdet.run"] == Run.open(run).info["id"]
    assert [o.name for o in model.graph.output] == ["boxes", "scores", "classes"]
    _run_block_of_the_page(tmp_path, out, monkeypatch)
    output = capsys.readouterr().out.splitlines()
    # COCO-style results of the same picture by train_det itself, whose threshold is 0.05.
    path = run / "results" / "voc%3Avoc%3Atest" / "coco_instances_results.json"
    results = [r for r in json.loads(path.read_text(encoding="utf-8")) if r["image_id"] == "000004"]
    assert len(results) > 3
    for result in results:
        x0, y0, width, height = result["bbox"]
        name = ("ape", "bee")[result["category_id"] - 1]
        line = f"{name} {result['score']:.3f}"
        boxes = [json.loads(s.removeprefix(line)) for s in output if s.startswith(line)]
        corners = (x0, y0, x0 + width, y0 + height)
        assert any(np.allclose(box, corners, atol=0.5) for box in boxes), (line, corners)

    (run / "model_final.pth").unlink()
    with pytest.raises(RunError, match="model_final.pth does not exist: the run is finished"):
        export(run, "-o", out)


def test_a_run_of_another_kind_is_refused(tmp_path):
    content = {"id": "a", "kind": "classification", "state": "finished", "created": "now"}
    write_json(tmp_path / "run.json", content)
    with pytest.raises(RunError, match="is a classification run, and a detector is expected"):
        detector_export.export_detector(tmp_path, tmp_path / "out")
