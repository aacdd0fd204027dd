"""Strict reading: what Detectron2 lets pass is refused with file and line; facts never overrule."""

import shlex
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("detectron2")

from detectron2.config import get_cfg as detectron2_cfg

from resdet.config import (
    check_reference_batch,
    data_options,
    flatten,
    get_cfg,
    get_key,
    resolve,
    set_key,
)
from resdet.config.config import _typed
from resdet.config.detectron2_keys import READ, REFUSED, Fate, fate_of
from resdet.config.keys import ALLOWED, COUNTS
from resdet.errors import ConfigError


def write(tmp_path, text, name="c.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_detectron2s_own_keys_keep_their_defaults():
    """With our options off a config means what it always meant."""
    ours = dict(flatten(get_cfg()))
    for key, value in flatten(detectron2_cfg()):
        assert ours[key] == value


def test_a_stock_config_loads_unchanged():
    """Detectron2's own R-50-C4, against its own reader."""
    zoo = pytest.importorskip("detectron2.model_zoo")
    path = zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml")
    theirs = detectron2_cfg()
    theirs.merge_from_file(path)
    ours = dict(flatten(resolve(path).cfg))
    for key, value in flatten(theirs):
        assert ours[key] == value, key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVER:\n  BASE_LRR: 0.1\n", r"c\.yaml, line 2: SOLVER\.BASE_LRR does not exist"),
        ("SOLVER:\n  BASE_LRR: 0.1\n", r"Did you mean SOLVER\.BASE_LR\?"),
        ("solver:\n  max_iter: 3\n", r"solver\.max_iter does not .* mean SOLVER\.MAX_ITER\?"),
        ("DATASETS: {TRAIN: mine}\n", r"'mine' \(str\), expected tuple such as \('mine',\)\."),
        ("SOLVER: {}\nX: 1\nSOLVER: {}\n", r"line 3: SOLVER stands twice \(first in line 1\)"),
        ("A: !!python/object/apply:os.system [true]\n", r"does not exist|would run code"),
        ("SOLVER:\n  MAX_ITER: !!python/object/apply:os.getpid []\n", "line 2: .*would run code"),
        ("SOLVER:\n  MAX_ITER: many\n", r"MAX_ITER is 'many' \(str\), expected int"),
        ("SOLVER: 3\n", r"SOLVER holds keys of its own"),
        ("_BASE_: none.yaml\n", r"none\.yaml does not exist \(asked for by .*c\.yaml\)"),
        ("- 1\n", "expected KEY: VALUE lines"),
        ("a: [\n", "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_refused_with_its_line(tmp_path, text, message):
    """F47, F48."""
    with pytest.raises(ConfigError, match=message):
        resolve(write(tmp_path, text))


def test_a_config_that_is_not_there_is_told_its_neighbours_names(tmp_path):
    """coco_r10.yaml: one letter from a file that is."""
    (tmp_path / "coco_r101.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"coco_r10\.yaml does not exist.*mean coco_r101\.yaml\?"):
        resolve(tmp_path / "coco_r10.yaml")
    with pytest.raises(ConfigError, match=r"Give --config a file"):
        resolve(tmp_path / "something_else.yaml")


def test_a_config_that_is_asked_for_without_its_folder_is_named_with_it(tmp_path):
    """Its own name in a folder wins over a like one beside it."""
    write(tmp_path, "", "coco_r101.yaml")
    (tmp_path / "modern").mkdir()
    write(tmp_path / "modern", "", "coco_r101_modern.yaml")
    expected = r"does not exist\. Did you mean modern/coco_r101_modern\.yaml\?"
    with pytest.raises(ConfigError, match=expected):
        resolve(tmp_path / "coco_r101_modern.yaml")
    with pytest.raises(ConfigError, match=r"Did you mean modern/coco_r101_modern\.yaml or "):
        resolve(tmp_path / "coco_r101_moderm.yaml")


def test_a_circle_of_bases_is_named(tmp_path):
    """F48."""
    write(tmp_path, "_BASE_: b.yaml\n", "a.yaml")
    write(tmp_path, "_BASE_: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match=r"circle: a\.yaml > b\.yaml > a\.yaml"):
        resolve(tmp_path / "a.yaml")


def test_integers_widen_and_tuples_are_read(tmp_path):
    """F47: `BASE_LR: 1` is harmless."""
    text = "SOLVER:\n  BASE_LR: 1\n  STEPS: (3, 4)\nDATASETS:\n  TRAIN: ('a',)\n"
    cfg = resolve(write(tmp_path, text)).cfg
    assert cfg.SOLVER.BASE_LR == 1.0 and isinstance(cfg.SOLVER.BASE_LR, float)
    assert cfg.SOLVER.STEPS == (3, 4) and cfg.DATASETS.TRAIN == ("a",)


@pytest.mark.parametrize("key", ["SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.WEIGHT_DECAY_EMBED"])
def test_what_may_be_none_takes_number_and_none_over_each_other(tmp_path, key):
    """yacs lets None and any value follow each other; a whole number is no other kind here."""
    section, name = key.split(".")
    file = write(tmp_path, f"{section}: {{{name}: 0}}\n")
    for text, value in (("1e-4", 1e-4), ("0.5", 0.5), ("None", None), ("3", 3)):
        assert get_key(resolve(file, [key, text]).cfg, key) == value
    for text in ("True", "'x'", "(1,)"):
        with pytest.raises(ConfigError, match=rf"{key} is .*, expected None \(WEIGHT_DECAY\) or 0"):
            resolve(file, [key, text])


def test_the_leaf_and_then_the_command_line_win(tmp_path):
    write(tmp_path, "SOLVER: {BASE_LR: 0.1, MAX_ITER: 7}\n", "base.yaml")
    leaf = write(tmp_path, "_BASE_: base.yaml\nSOLVER: {BASE_LR: 0.2}\n")
    config = resolve(leaf, ["SOLVER.MAX_ITER", "9"])
    assert (config.cfg.SOLVER.BASE_LR, config.cfg.SOLVER.MAX_ITER) == (0.2, 9)
    assert config.stated["SOLVER.BASE_LR"] == "c.yaml, line 2"
    assert config.stated["SOLVER.MAX_ITER"] == "command line"


def test_a_flag_after_the_first_pair_is_refused():
    """docs/commands.md: argparse would swallow it as a key."""
    with pytest.raises(ConfigError, match="--resume comes after the first KEY VALUE pair"):
        resolve(None, ["SOLVER.MAX_ITER", "2", "--resume"])
    with pytest.raises(ConfigError, match=r"'SOLVER\.MAX_ITER' stands alone"):
        resolve(None, ["SOLVER.MAX_ITER"])


def test_facts_fill_what_nobody_stated_and_refuse_contradictions():
    """F19: both values and both origins in the message."""
    config = resolve(None, ["INPUT.FORMAT", "BGR"])
    with pytest.raises(
        ConfigError, match=r"INPUT\.FORMAT is 'BGR' \(command line\), expected 'RGB' \(the card"
    ):
        config.fill({"INPUT.FORMAT": "RGB", "MODEL.PIXEL_STD": [1, 2, 3]}, "the card")
    assert config.cfg.MODEL.PIXEL_STD == [1.0, 1.0, 1.0]  # nothing half-filled
    config.fill({"MODEL.PIXEL_STD": [1, 2, 3]}, "the card")
    assert config.cfg.MODEL.PIXEL_STD == [1, 2, 3]
    assert config.derived["MODEL.PIXEL_STD"] == "the card"


def test_another_batch_needs_a_decision():
    """F34: BASE_LR 0.02 belongs to 16 images; 4 make a rate of 0.005 and four times the steps."""
    base = ["SOLVER.REFERENCE_BATCH", "16", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.02"]
    with pytest.raises(
        ConfigError, match=r"IMS_PER_BATCH is 4, but BASE_LR 0\.02 belongs to 16.*BASE_LR 0\.005"
    ):
        check_reference_batch(resolve(None, base))
    kept = resolve(None, [*base, "SOLVER.SCALE_LR", "keep"])
    check_reference_batch(kept)
    assert kept.cfg.SOLVER.BASE_LR == 0.02
    scaled = resolve(None, [*base[:4], "SOLVER.SCALE_LR", "linear"])
    before = scaled.cfg.SOLVER.BASE_LR
    check_reference_batch(scaled)
    assert before / 4 == scaled.cfg.SOLVER.BASE_LR
    assert scaled.cfg.SOLVER.MAX_ITER == 160_000


def test_nothing_follows_a_batch_that_is_not_stated():
    """Detectron2's own configs state none; the rate stayed as it was, whatever the batch."""
    opts = ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.SCALE_LR"]
    with pytest.raises(ConfigError, match=r"SCALE_LR is linear, and SOLVER\.REFERENCE_BATCH 0: "):
        check_reference_batch(resolve(None, [*opts, "linear"]))
    check_reference_batch(resolve(None, [*opts, "keep"]))


def test_a_large_batch_leaves_a_step_to_take(tmp_path):
    """512 times the images: a 512th of 100 steps rounds to none, and nothing would train."""
    text = "SOLVER: {REFERENCE_BATCH: 2, IMS_PER_BATCH: 1024, SCALE_LR: linear, MAX_ITER: 100}"
    config = resolve(write(tmp_path, text))
    check_reference_batch(config)
    assert config.cfg.SOLVER.MAX_ITER == 1


def test_the_rate_that_a_cosine_ends_at_follows_the_batch():
    """A key of Detectron2's main; unscaled it would lie above a small batch's own rates."""
    config = resolve(None, ["SOLVER.REFERENCE_BATCH", "16", "SOLVER.IMS_PER_BATCH", "4",
                            "SOLVER.SCALE_LR", "linear"])  # fmt: skip
    config.cfg.SOLVER.BASE_LR_END = 0.0004
    check_reference_batch(config)
    assert pytest.approx(0.0001) == config.cfg.SOLVER.BASE_LR_END
    assert "linear" in config.derived["SOLVER.BASE_LR_END"]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ["EVAL.VOC_STYLE", "devkti"],
            r"EVAL\.VOC_STYLE is 'devkti', expected one of 'd2', 'devkit'",
        ),
        (
            ["DATASETS.VOC_DIFFICULT", "dorp"],
            r"command line: .*'dorp', expected one of 'keep', 'drop'",
        ),
        (["ENGINE.BF16", "yes", "INPUT.EXIF", "foo"], r"BF16 is 'yes'(.|\n)*EXIF is 'foo'"),
        (["MODEL.NET.NAME", "vgg16", "INPUT.FORMAT", "rgb"], "INPUT.FORMAT is 'rgb', expected"),
        (["SOLVER.MAX_ITER", "3", "--resume"], "--resume comes after the first KEY VALUE pair"),
    ],
)
def test_words_that_no_key_knows_are_refused_at_the_start(opts, message):
    """A typo must not mean "off", nor end a training that is over."""
    with pytest.raises(ConfigError, match=message):
        resolve(None, opts)


@pytest.mark.parametrize("images", ["0", "-1"])
def test_a_batch_of_no_images_is_refused(images):
    """No step would ever end."""
    with pytest.raises(
        ConfigError, match=rf"SOLVER.IMS_PER_BATCH is {images}, expected 1 to 65,536"
    ):
        resolve(None, ["SOLVER.IMS_PER_BATCH", images])


def test_every_list_of_allowed_values_holds_the_default():
    assert len(ALLOWED) >= 10
    for key, choices in ALLOWED.items():
        assert get_key(get_cfg(), key) in choices


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0", 0),
        ("mine=3", {"mine": 3}),
        ("'mine=3'", {"mine": 3}),
        ("['mine=3', 'voc:/a b=c.d:train=0']", {"mine": 3, "voc:/a b=c.d:train": 0}),
        ("()", {}),
    ],
)
def test_a_count_is_for_all_sets_or_by_the_name_of_each(tmp_path, key, text, value):
    """In a file, in pairs, and again from what a run folder keeps; the name ends at the last =."""
    in_file = write(tmp_path, f"DATASETS:\n  {key.rpartition('.')[2]}: {text}\n")
    for config in (resolve(in_file), resolve(None, [key, text]), resolve(in_file, [key, text])):
        assert data_options(config.cfg)[key.rpartition(".")[2].lower()] == value
        again = resolve(write(tmp_path, config.to_yaml(), "kept.yaml"))
        assert data_options(again.cfg) == data_options(config.cfg)
        assert yaml.safe_load(again.to_yaml()) == yaml.safe_load(config.to_yaml())


@pytest.mark.parametrize("text", ["-1", "1.5", "True", "mine", "=3", "mine=-1", "[3]", "{'a': 1}"])
def test_what_is_no_count_is_refused_with_both_forms(text):
    """F47; a name without a count must not let anything pass."""
    with pytest.raises(
        ConfigError, match=r"command line: .*DROP_ORPHANS is .*expected a count.*trainval=3"
    ):
        resolve(None, ["DATASETS.DROP_ORPHANS", text])
    with pytest.raises(ConfigError, match="a set stands twice"):
        resolve(None, ["DATASETS.DROP_ORPHANS", "('a=1', 'a=2')"])


def test_a_value_of_the_other_form_replaces_the_one_before(tmp_path):
    """A leaf may name sets where its base has a number, and the other way round."""
    write(tmp_path, "DATASETS: {DROP_ORPHANS: 2, ALLOW_MISSING: [a=1]}\n", "base.yaml")
    text = "_BASE_: base.yaml\nDATASETS: {DROP_ORPHANS: [a=1], ALLOW_MISSING: 3}\n"
    cfg = resolve(write(tmp_path, text)).cfg
    assert (cfg.DATASETS.DROP_ORPHANS, cfg.DATASETS.ALLOW_MISSING) == (("a=1",), 3)
    set_key(cfg, "DATASETS.DROP_ORPHANS", 4)
    assert cfg.DATASETS.DROP_ORPHANS == 4


def test_a_file_of_another_encoding_is_refused_with_its_name(tmp_path):
    """F48: 0xe9 is an e with an accent in Latin-1, and no UTF-8."""
    (tmp_path / "c.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"c\.yaml is not text in UTF-8"):
        resolve(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        resolve(tmp_path)


def test_an_empty_name_is_filled_as_one_that_was_not_stated():
    """So that `MODEL.NET.NAME ""` leaves a preset's net to the weights."""
    config = resolve(None, ["MODEL.NET.NAME", ""])
    config.fill({"MODEL.NET.NAME": "vgg11"}, "the card")
    assert config.cfg.MODEL.NET.NAME == "vgg11"
    with pytest.raises(ConfigError, match=r"expected 'vgg11' \(the card"):
        resolve(None, ["MODEL.NET.NAME", "vgg16"]).fill({"MODEL.NET.NAME": "vgg11"}, "the card")


@pytest.mark.parametrize(
    ("value", "tf32", "kind", "note"),
    [
        ("highest", "off", READ, "so it is without TF32"),
        ("highest", "never", READ, "so it is without TF32"),
        ("highest", "on", REFUSED, "ENGINE.TF32 is on"),
        ("high", "off", REFUSED, "set ENGINE.TF32"),
    ],
)
def test_the_precision_of_detectron2s_main_is_read_where_it_is_what_is_done(
    value, tf32, kind, note
):
    """Its own accuracy tests state "highest"; 0.6 does not have the key."""
    cfg = SimpleNamespace(FLOAT32_PRECISION=value, ENGINE=SimpleNamespace(TF32=tf32))
    assert fate_of("FLOAT32_PRECISION", cfg) == Fate(kind, note)


@pytest.mark.parametrize("value", ["", (), [0.5, 1.0], True, "auto", 0])
def test_a_value_that_a_page_names_is_one_word_of_a_shell(value):
    """An empty text left KEY alone on the command line, which is no pair."""
    (word,) = shlex.split(_typed(value))
    assert word == str(value)
