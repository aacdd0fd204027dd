"""docs/timm.md: what its tool finds of timm's nets, held by building some of them."""

import re

import pytest

from tests.support.children import ROOT

pytest.importorskip("detectron2")
timm = pytest.importorskip("timm")

# Of each way one, and of each kind of reason.
SAMPLE = [
    ("resnet", "resnet18", "layers: C4, FPN"),
    ("mobilenetv3", "mobilenetv3_small_100", "layers: FPN"),
    ("hrnet", "hrnet_w18_small", "maps: FPN"),
    ("swin_transformer", "swin_tiny_patch4_window7_224", "maps: FPN"),
    ("vision_transformer", "vit_small_patch14_reg4_dinov2", "one map: simple pyramid"),
    ("convmixer", "convmixer_768_32", "one map: simple pyramid"),
    ("beit", "beit_base_patch16_224", "one map: simple pyramid"),
    ("maxxvit", "maxvit_tiny_tf_224", "maps: FPN"),
    ("mlp_mixer", "gmlp_ti16_224", "one map: simple pyramid"),
    ("efficientvit_msra", "efficientvit_m0", "layers: FPN"),
    ("inception_v3", "inception_v3", "layers: FPN"),
    ("xception", "legacy_xception", "maps: FPN"),
    ("crossvit", "crossvit_tiny_240", "no, see below"),
]


@pytest.fixture
def table(tool):
    return tool("make_timm_table")


@pytest.fixture
def page(table):
    return table.PAGE.read_text(encoding="utf-8")


def test_the_page_is_of_the_pinned_timm(page):
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^timm==(\S+)$", pins, re.MULTILINE)
    assert f"with timm {pinned}." in page


def test_every_family_of_timm_has_a_row_and_every_net_that_does_not_work_a_reason(table, page):
    if f"with timm {timm.__version__}." not in page:
        pytest.skip("another timm than the pinned one")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert {family for family, *_ in rows} == set(timm.list_modules())
    assert [(family, name) for family, _, name, _ in rows] == [
        (family, name) for family in sorted(table.TRIED) for name in table.TRIED[family]
    ]
    for family, count, name, how in rows:
        nets = timm.list_models(module=family)
        assert name in nets and int(count) == len(nets)
        assert (how.strip() == "no, see below") == (f"\n- `{name}`: " in page)


@pytest.mark.parametrize(("family", "name", "how"), SAMPLE)
def test_a_row_is_what_building_the_net_shows(table, page, family, name, how):
    found = table.verdict(name)
    assert (found.form or "no, see below") == how
    strides = ", ".join(map(str, found.strides))
    nets = len(timm.list_models(module=family))
    assert f"\n| {family} | {nets} | `{name}` | {how} | {found.images} | {strides} | " in page
    if found.reason:
        assert f"\n- `{name}`: {' '.join(found.reason.split())}\n" in page
