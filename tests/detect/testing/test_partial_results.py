"""An evaluation that is stopped and gone on with: no image lost, none counted twice (F41, F75)."""

import json
import os
import shutil
import signal

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Boxes, Instances

from resdet.config import get_cfg
from resdet.data.records import DetectionSet
from resdet.detect.testing import inference, partial_results
from resdet.errors import CheckFailed, Interrupted, RunError, TrainingStopped
from resdet.run import layout
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

ANEW = partial_results.Policy(resuming=False, refuses_others=True)
GO_ON = partial_results.Policy(resuming=True, refuses_others=True)
MARK = {"weights": "w", "MODEL.X": 1}
IDS = [7, 3, 12, 5, 40]


@pytest.fixture
def data():
    records = [{"image_id": i, "file_name": f"{i}.jpg", "width": 90, "height": 60} for i in IDS]
    return DetectionSet("five", records, ("ape", "bee"), (4, 9), ("coco",))


class Model(torch.nn.Module):
    """Two boxes an image, at a place that tells the image; `at` is called before each."""

    def __init__(self, at=lambda image_id: None):
        super().__init__()
        self.at = at
        self.seen = []
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(len(batch))
        return [self.one(given["image_id"]) for given in batch]

    def one(self, image_id):
        self.at(image_id)
        self.seen.append(image_id)
        boxes = torch.tensor([[image_id / 3, 1.0, 50.0, 20.0], [1.0, 2.0, image_id + 1 / 3, 4.0]])
        found = Instances((60, 90), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.1]))
        found.pred_classes = torch.tensor([1, 0])
        return {"instances": found}


def detect(model, data, folder, policy, mark=MARK):
    kept = partial_results.Parts.open(folder, data, mark, policy)
    return inference.detect(model, data, dict, parts=kept)


@pytest.fixture
def whole(data):
    """What one go without parts gives."""
    results, visited, _ = inference.detect(Model(), data, dict)
    assert visited == IDS and len(results) == 10
    return results


@pytest.mark.parametrize(("batch_size", "sizes"), [(2, [2, 2, 1]), (8, [5])])
def test_batches_give_each_image_its_own(tmp_path, data, whole, batch_size, sizes):
    """TEST.IMS_PER_BATCH: the same results in the same order, kept in parts as well."""
    model = Model()
    kept = partial_results.Parts.open(tmp_path / "p", data, MARK, ANEW)
    results, visited, _ = inference.detect(model, data, dict, batch_size=batch_size, parts=kept)
    assert (results, visited, model.sizes) == (whole, IDS, sizes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_work_after_the_image_and_the_rest_follows(tmp_path, data, whole, number):
    """Three images, a signal in the third, then two: each image once, results to the bit."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    first = Model(lambda i: os.kill(os.getpid(), number) if i == IDS[2] else None)
    with pytest.raises(Interrupted, match="3 of 5 images of five are kept in") as stopped:
        detect(first, data, tmp_path / "p", ANEW)
    assert stopped.value.exit_code == 128 + number
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before
    second = Model()
    results, visited, _ = detect(second, data, tmp_path / "p", GO_ON)
    assert (first.seen, second.seen) == (IDS[:3], IDS[3:])
    assert (results, visited) == (whole, IDS)


def test_parts_are_written_every_so_many_images(tmp_path, data, monkeypatch):
    """With two an image file, five images make three files, named by their first image's place."""
    monkeypatch.setattr(partial_results, "PART_IMAGES", 2)
    detect(Model(), data, tmp_path, ANEW)
    names = sorted(p.name for p in tmp_path.glob("part_*"))
    assert names == ["part_0000000.json", "part_0000002.json", "part_0000004.json"]


def test_parts_are_written_every_so_many_seconds(tmp_path, data, monkeypatch):
    monkeypatch.setattr(partial_results, "PART_SECONDS", 0.0)
    detect(Model(), data, tmp_path, ANEW)
    assert len(list(tmp_path.glob("part_*"))) == 5


def test_an_error_of_the_model_keeps_what_was_finished(tmp_path, data, whole):
    """A crash is no signal: it stays the error that it is, and its images are not lost."""

    def crash(image_id):
        if image_id == IDS[3]:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        detect(Model(crash), data, tmp_path, ANEW)
    second = Model()
    assert detect(second, data, tmp_path, GO_ON)[0] == whole
    assert second.seen == IDS[3:]


def test_a_worker_that_the_signal_ended_is_no_crash(tmp_path, data):
    """The loader shows a worker's death as a RuntimeError, in the middle of a wait."""

    def die(image_id):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    with pytest.raises(Interrupted, match="0 of 5 images"):
        detect(Model(die), data, tmp_path, ANEW)


def test_keys_that_change_no_detection_are_no_part_of_the_mark(data):
    """A resume that waits for space, or keeps the best model too, need not detect anew."""
    cfg = get_cfg()
    before = partial_results.fingerprint_of(cfg, "w", data)
    cfg.ENGINE.DISK_WAIT, cfg.ENGINE.WORKER_TIMEOUT, cfg.TEST.BEST_METRIC = 60.0, 60.0, "AP"
    assert partial_results.fingerprint_of(cfg, "w", data) == before
    # Without loader workers, after one was killed; held against numbers that were expected.
    cfg.ENGINE.WORKERS, cfg.ENGINE.KEEP_MEMORY, cfg.ENGINE.FUSED_OPTIMIZER = "auto", "auto", "on"
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 38.5, 0.2]]
    cfg.TEST.VALIDATION_LOSS, cfg.TEST.EARLY_STOP = True, 3
    assert partial_results.fingerprint_of(cfg, "w", data) == before
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    assert partial_results.fingerprint_of(cfg, "w", data) != before


def test_other_weights_or_keys_are_refused(tmp_path, data):
    """Both values are reported; nothing is removed."""
    detect(Model(), data, tmp_path, ANEW)
    with pytest.raises(RunError, match=r"MODEL.X is 2, the finished images had 1"):
        detect(Model(), data, tmp_path, GO_ON, {**MARK, "MODEL.X": 2})
    assert list(tmp_path.glob("part_*"))


@pytest.mark.parametrize(
    ("policy", "mark"),
    [
        pytest.param(ANEW, MARK, id="not-asked-to-go-on"),
        pytest.param(
            partial_results.Policy(resuming=True, refuses_others=False),
            {"weights": "v"},
            id="trained-on",
        ),
    ],
)
def test_everything_runs_again_where_parts_are_not_to_be_used(tmp_path, data, whole, policy, mark):
    detect(Model(), data, tmp_path, ANEW)
    # Nor may they be there for a third attempt that goes on from the second.
    partial_results.Parts.open(tmp_path, data, mark, policy)
    assert [p.name for p in tmp_path.iterdir()] == [layout.FINGERPRINT]
    detect(Model(), data, tmp_path, ANEW)
    again = Model()
    assert detect(again, data, tmp_path, policy, mark)[0] == whole
    assert again.seen == IDS


def test_parts_without_a_fingerprint_are_not_trusted(tmp_path, data):
    detect(Model(), data, tmp_path, ANEW)
    (tmp_path / layout.FINGERPRINT).unlink()
    again = Model()
    detect(again, data, tmp_path, GO_ON)
    assert again.seen == IDS


def test_a_damaged_part_runs_again(tmp_path, data, whole, monkeypatch):
    monkeypatch.setattr(partial_results, "PART_IMAGES", 2)
    detect(Model(), data, tmp_path, ANEW)
    path = tmp_path / "part_0000002.json"
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    again = Model()
    assert detect(again, data, tmp_path, GO_ON)[0] == whole
    assert again.seen == IDS[2:4]


def test_an_image_in_two_parts_is_refused(tmp_path, data):
    """It would be counted twice: F41's check covers parts, too."""
    detect(Model(), data, tmp_path, ANEW)
    shutil.copy(tmp_path / "part_0000000.json", tmp_path / "part_0000001.json")
    with pytest.raises(CheckFailed, match="expected 5 images, visited 10, 5 twice"):
        detect(Model(), data, tmp_path, GO_ON)


def test_a_full_disk_stops_with_what_was_written(tmp_path, data, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    kept = partial_results.Parts.open(tmp_path, data, MARK, ANEW)
    monkeypatch.setattr(partial_results, "write_json", full)
    with pytest.raises(TrainingStopped, match="No space left on device. Free space"):
        inference.detect(Model(), data, dict, parts=kept)


def test_seconds_add_up_over_attempts(tmp_path, data):
    """The first attempt's seconds, from its parts, are in the total of the second."""
    detect(Model(), data, tmp_path, ANEW)
    (part,) = tmp_path.glob("part_*")
    value = json.loads(part.read_text(encoding="utf-8"))
    part.write_text(json.dumps({**value, "seconds": 100.0}), encoding="utf-8")
    assert 100 < detect(Model(), data, tmp_path, GO_ON)[2] < 101


def test_the_digest_tells_one_changed_number_and_a_changed_name():
    net = torch.nn.Linear(2, 3)
    before = partial_results.weights_digest(net)
    assert partial_results.weights_digest(net) == before
    assert partial_results.weights_digest(torch.nn.Sequential(net)) != before
    with torch.no_grad():
        net.bias[2] += 1
    assert partial_results.weights_digest(net) != before


def test_the_digest_of_norms_is_of_their_kind_and_not_of_their_count():
    """A file of weights has no count of steps; a frozen norm rounds otherwise than a live one."""
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(4))
    before = partial_results.weights_digest(net)
    net[0].num_batches_tracked += 3
    assert partial_results.weights_digest(net) == before
    frozen = torch.nn.Sequential(FrozenBatchNorm2d.convert_frozen_batchnorm(net[0]))
    assert partial_results.weights_digest(frozen) != before
    net[0].running_mean += 1
    assert partial_results.weights_digest(net) != before


# -- from the command line ----------------------------------------------------------------------

CONFIG = trainings.detector(trainings.FROM_SCRATCH)
# Writes each image at once, and sends this process a signal when image `at` is finished.
SIGNALLED = """
import os, sys
from resdet.detect.testing import partial_results as parts
number, at, rank = (int(a) for a in sys.argv[1:4])
parts.PART_IMAGES, seen, add = 1, [], parts.Parts.add
def signalled(self, *args):
    seen.append(args)
    if len(seen) == at and int(os.environ.get("RANK", 0)) == rank:
        if number == 9:
            try: add(self, *args)
            finally: os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    add(self, *args)
parts.Parts.add = signalled
from resdet.cli.main import main
sys.exit(main(sys.argv[4:]))
"""
TRAIN = ("train_det", "--config", "c.yaml", "--output", "run")
EVALUATE = (*TRAIN, "--eval-only")
SCORES = "results/voc%3Avoc%3Atest"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose last evaluation was stopped and gone on with, and one_go/: results of one go."""
    place = tmp_path_factory.mktemp("parts")
    tiny.voc_tree(place / "voc", images=14)
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    stopped = signalled(place, signal.SIGTERM, 3, command=TRAIN)
    _keep(place / "stopped.json", stopped)
    shutil.copytree(place / "run", place / "stopped")
    _keep(place / "again.json", children.run_cli(*TRAIN, "--resume", cwd=place))
    done = children.run_cli(*EVALUATE, cwd=place)
    assert done.returncode == 0, done.stderr
    shutil.copytree(place / "run" / SCORES, place / "one_go")
    return place


def _keep(path, done):
    value = [done.returncode, done.stderr, Run.open(path.parent / "run").state]
    path.write_text(json.dumps(value), encoding="utf-8")


def signalled(place, number, at, *, command=EVALUATE, rank=0, processes=1):
    script = place / "signalled.py"
    script.write_text(SIGNALLED, encoding="utf-8")
    words = (script, int(number), at, rank, *command)
    return children.python(*words, cwd=place, processes=processes, OMP_NUM_THREADS="1")


def same_files(place, *names):
    for name in names or ("coco_instances_results.json", "comp4_det_test_ape.txt", "voc.json"):
        one, other = (place / f / name for f in ("one_go", f"run/{SCORES}"))
        assert one.read_bytes() == other.read_bytes(), name


def test_killed_and_gone_on_with_equals_one_go_to_the_byte(trained):
    """kill -9 after two of seven images; what is there is not visited again."""
    killed = signalled(trained, 9, 2)
    assert killed.returncode == -9, killed.stderr
    kept = trained / "run" / SCORES / "parts"
    assert sorted(p.name for p in kept.glob("part_*")) == ["part_0000000.json", "part_0000001.json"]
    # So that old results cannot pass for new ones.
    for path in (trained / "run" / SCORES).glob("c*"):
        path.unlink()
    again = children.run_cli(*EVALUATE, "--resume", cwd=trained)
    assert again.returncode == 0, again.stderr
    assert "2 of 7 images are there already" in again.stderr
    assert "5 of 5 images" in again.stderr
    same_files(trained)
    assert not kept.exists()


def test_a_stop_in_the_last_evaluation_of_a_training(trained):
    """143; --resume of the training uses the images that are finished; the run's state follows."""
    code, output, state = json.loads((trained / "stopped.json").read_text(encoding="utf-8"))
    assert (code, state) == (143, "interrupted"), output
    code, output, state = json.loads((trained / "again.json").read_text(encoding="utf-8"))
    assert (code, state) == (0, "finished"), output
    assert "3 of 7 images are there already" in output


def test_eval_only_goes_on_with_the_last_evaluation_of_a_training(trained):
    """From scratch, with live norms: the same images to the byte as by --resume of the training."""
    command = ("train_det", "--config", "c.yaml", "--output", "stopped", "--eval-only", "--resume")
    done = children.run_cli(*command, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "3 of 7 images are there already" in done.stderr
    name = "coco_instances_results.json"
    one, other = (trained / f / name for f in ("one_go", f"stopped/{SCORES}"))
    assert one.read_bytes() == other.read_bytes()


def test_a_stop_of_an_evaluation_leaves_the_run_finished(trained):
    """130; the page states how to go on; another config does not get these images."""
    stopped = signalled(trained, signal.SIGINT, 3)
    assert stopped.returncode == 130, stopped.stderr
    assert "3 of 7 images of voc:voc:test are kept in" in stopped.stderr
    assert "--resume" in stopped.stderr and "Traceback" not in stopped.stderr
    assert Run.open(trained / "run").state == "finished"
    other = children.run_cli(*EVALUATE, "--resume", "INPUT.MIN_SIZE_TEST", "80", cwd=trained)
    assert other.returncode == 2, other.stderr
    assert "INPUT.MIN_SIZE_TEST is 80" in other.stderr and "64" in other.stderr
    again = children.run_cli(*EVALUATE, "--resume", cwd=trained)
    assert again.returncode == 0, again.stderr
    assert "3 of 7 images are there already" in again.stderr
    same_files(trained)


def test_two_processes_killed_and_one_goes_on(trained):
    """The second of two dies by SIGKILL at its second image; one process does the rest."""
    killed = signalled(trained, 9, 2, rank=1, processes=2)
    assert killed.returncode != 0
    kept = list((trained / "run" / SCORES / "parts").glob("part_*"))
    assert 2 <= len(kept) <= 6
    again = children.run_cli(*EVALUATE, "--resume", cwd=trained)
    assert again.returncode == 0, again.stderr
    assert f"{len(kept)} of 7 images are there already" in again.stderr
    same_files(trained)
    one, two = children.run_cli(*EVALUATE, cwd=trained, processes=2), trained / "run" / SCORES
    assert one.returncode == 0, one.stderr
    images = json.loads((two / "images.json").read_text(encoding="utf-8"))
    assert images["expected"] == images["evaluated"] and len(images["evaluated"]) == 7
    same_files(trained)


def test_a_set_without_annotations_is_detected_on_and_not_scored(trained):
    """Same pictures as the VOC test set, so the boxes are those of one go; no AP, a next step."""
    names = (trained / "voc/ImageSets/Main/test.txt").read_text(encoding="utf-8").split()
    info = {
        "images": [
            {"id": 100 + i, "file_name": f"{n}.jpg", "width": 96 if int(n) % 3 else 72,
             "height": 72 if int(n) % 3 else 96}
            for i, n in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "ape"}, {"id": 8, "name": "bee"}],
    }  # fmt: skip
    (trained / "image_info.json").write_text(json.dumps(info), encoding="utf-8")
    name = "coco:image_info.json:voc/JPEGImages"
    done = children.run_cli(*EVALUATE, "DATASETS.TEST", f"('{name}',)", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "7 images, not scored: this set has no annotations" in done.stdout
    assert f"tools/submit.py coco run --set {name} --algorithm NAME" in done.stdout
    run = Run.open(trained / "run")
    assert run.detected_sets() == [name, "voc:voc:test"]
    assert run.result_sets() == ["voc:voc:test"]
    folder = run.results(name)
    assert not (folder / "coco.json").exists() and not (folder / "ground_truth.json.gz").exists()
    found, voc = (
        json.loads((f / "coco_instances_results.json").read_text(encoding="utf-8"))
        for f in (folder, trained / "one_go")
    )
    assert {f["category_id"] for f in found} <= {3, 8}
    assert [(f["bbox"], f["score"]) for f in found] == [(f["bbox"], f["score"]) for f in voc]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param(
            ["--output", "other", "DATASETS.TEST", "('voc_2012_test',)"],
            "voc_2012_test has no annotations, so no AP can be had here",
            id="a-training-ends-with-a-score",
        ),
        pytest.param(
            ["--output", "other", "DATASETS.TRAIN", "('coco_2017_test-dev',)"],
            "coco_2017_test-dev has no annotations",
            id="a-training-needs-annotations",
        ),
        pytest.param(
            ["--output", "run", "--eval-only", "MODEL.WEIGHTS", "net.safetensors"],
            "MODEL.WEIGHTS is net.safetensors, but run is the run of another model",
            id="a-classifier-cannot-be-scored",
        ),
    ],
)
def test_what_stays_refused(trained, args, words):
    from resdet import nets, weights
    from resdet.weights import Card, Input

    net = nets.build("resnet18", 3, width=0.125)
    card = Card("resnet18", Input("RGB", (60.0,) * 3, (50.0,) * 3), {"width": 0.125})
    weights.save(trained / "net.safetensors", net.state_dict(), card)
    done = children.run_cli("train_det", "--config", "c.yaml", *args, cwd=trained)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr
