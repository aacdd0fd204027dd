"""Any key with any value: accepted, or a page with exit code 2; what is accepted builds, or is one.

Values come from the command line and from YAML, where a slip of the pen makes a list of a number
or a text of nothing.
"""

import math

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet.config import config as config_module
from resdet.config import get_cfg, get_key, resolve
from resdet.config.config import flatten
from resdet.config.key_checks import leaves
from resdet.detect.architecture.model import build_faults_as_pages, fill_from_weights_and_net
from resdet.errors import ConfigError

KEYS = [key for key, _ in flatten(get_cfg())]
VALUES = [None, [], [None], "x", -1, 0, 2**70, math.inf, math.nan, [[]], {}, [[[[1]]]], "\udc80",
          "a\0b", 10**9, True, 0.5, ["x"], [-1], [10**9]]  # fmt: skip


def accepted(key, value):
    """The config with the value, or None; raises for all but a page."""
    config = config_module.Config(get_cfg())
    try:
        # As `resolve` does with each entry of a file or the command line.
        config_module._apply(config, key, value, "command line")
        config_module._check_values(config)
    except ConfigError as error:
        assert (key in str(error) and str(error).isprintable()) or "\n" in str(error)
        str(error).encode("utf-8")
        return None
    return config


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_no_value_of_any_key_ends_in_a_traceback(value):
    for key in KEYS:
        config = accepted(key, value)
        if config is not None:
            assert not leaves.misfit(value)
            config.to_yaml().encode("utf-8")


@pytest.mark.parametrize(
    "value", [math.inf, math.nan, 2**70, "\udc80", "a\0b", {}, [[[[1]]]], [[]], [None]], ids=ascii
)
def test_what_no_key_can_mean_is_refused_by_all(value):
    late = {"TEST.EXPECTED_RESULTS"}  # `expected_results.check_form` names the row
    assert {key for key in KEYS if accepted(key, value)} <= late


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("MODEL.ROI_HEADS.IN_FEATURES", "[1]", "has 1, expected str in its list"),
        ("MODEL.RPN.IOU_LABELS", "[0, 7, 1]", "expected labels of -1, 0 and 1"),
        ("MODEL.RPN.IOU_LABELS", "[0, 1]", "expected 3, one more than MODEL.RPN.IOU_THRESHOLDS"),
        ("MODEL.RPN.IOU_THRESHOLDS", "[0.7, 0.3]", "rising"),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(10, 10, 5)", "four numbers above 0"),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[[1]]]", "expected float in its list"),
        ("MODEL.ROI_BOX_HEAD.FC_DIM", "-1", "expected 1 to 65,536"),
        ("MODEL.NET.FC_CHANNELS", "-4", "expected 0 to 65,536"),
        ("SOLVER.IMS_PER_BATCH", "1000000000", "expected 1 to 65,536"),
        ("DATASETS.CLIP_BOXES", "1e999", "is inf, expected a finite number"),
        ("INPUT.FORMAT", "YUV-BT.601", "expected one of 'RGB', 'BGR'"),
        ("OUTPUT_DIR", "run\udc80", r"is 'run\\udc80', expected text without NUL"),
        ("SEED", "9" * 400, "is a number of 400 digits"),
        ("SEED", "9" * 5000, "is '9999"),  # beyond what Python reads as a number
    ],
)
def test_the_page_names_the_value_and_what_is_expected(key, text, words):
    with pytest.raises(ConfigError, match=rf"command line: {key} .*{words}"):
        resolve(None, [key, text])


def test_a_key_is_held_against_its_default_not_against_a_base(tmp_path):
    """One list of anchors for all maps in a base, one for each in the file above it."""
    (tmp_path / "base.yaml").write_text("MODEL: {ANCHOR_GENERATOR: {SIZES: [32, 64]}}\n", "utf-8")
    text = "_BASE_: base.yaml\nMODEL: {ANCHOR_GENERATOR: {SIZES: [[32], [64]]}}\n"
    (tmp_path / "c.yaml").write_text(text, "utf-8")
    assert resolve(tmp_path / "c.yaml").cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[32], [64]]


# Built in the least time: a narrow trunk, on a device without memory.
SMALL = ["MODEL.BACKBONE.NAME", "build_net_backbone", "MODEL.ROI_HEADS.NAME", "RegionHeads",
         "MODEL.NET.NAME", "resnet18", "MODEL.NET.WIDTH", "0.0625", "MODEL.DEVICE", "cpu",
         "MODEL.ANCHOR_GENERATOR.SIZES", "[[32]]"]  # fmt: skip
READ_BY_BUILD = ("MODEL.RPN.", "MODEL.ROI_HEADS.", "MODEL.ROI_BOX_HEAD.", "MODEL.NET.",
                 "MODEL.ANCHOR_GENERATOR.", "MODEL.BACKBONE.", "MODEL.PROPOSAL_GENERATOR.",
                 "MODEL.PIXEL_")  # fmt: skip


def build_with(*opts):
    config = resolve(None, opts)
    with build_faults_as_pages(config):
        fill_from_weights_and_net(config, None)
        config.cfg.MODEL.DEVICE = "meta"
        with torch.device("meta"):
            return build_model(config.cfg)


@pytest.mark.parametrize("value", ["x", "1", "-1", "0", "0.5", "['x']", "[1]", "[0.5]"])
def test_an_accepted_value_builds_or_names_its_key(value):
    """Of every key of the detector; a list of one name is a map that no backbone has."""
    built = 0
    for key in (k for k in KEYS if k.startswith(READ_BY_BUILD)):
        try:
            build_with(*SMALL, key, value)
            built += 1
        except ConfigError as error:
            assert key in str(error) or key.startswith(("MODEL.NET.", "MODEL.BACKBONE.")), error
    assert built or "x" in value


def test_the_page_of_a_build_has_the_keys_of_the_command_line_first():
    config = resolve(None, [*SMALL, "MODEL.RPN.HEAD_NAME", "no_such_head"])
    with pytest.raises(ConfigError, match="no detector can be built") as error:
        build_with(*SMALL, "MODEL.RPN.HEAD_NAME", "no_such_head")
    assert "command line: MODEL.RPN.HEAD_NAME 'no_such_head'" in str(error.value)
    assert get_key(config.cfg, "MODEL.RPN.HEAD_NAME") == "no_such_head"


def test_what_nobody_stated_keeps_its_traceback():
    """A fault in our own code is not called a fault of the config."""
    config = resolve(None)
    with pytest.raises(ZeroDivisionError), build_faults_as_pages(config):
        raise ZeroDivisionError
