"""The names of all files in a run folder, for those who write, read or look for one.

    RUN/
      run.json               id, kind, state, command, seed, times (UTC), host, versions
      config.yaml            the resolved config, complete
      card.json              the card of the weights that came in (detection) or went out
      transfer.json          tensors expected, arrived, declared new, left over
      left_out.json          images without objects, which did not train, by reason
      classification.json    errors of a classifier, by set
      log.txt, metrics.json  Detectron2's log and its JSON lines, one per period
      checkpoints/           step_0000800.pth …, newest two; `last` names the newest
      model.safetensors      a finished classifier, its card inside
      model_final.pth        a finished detector, loadable by stock Detectron2
      model_best.safetensors, model_best.pth   the best by TEST.BEST_METRIC, with its value and step
      results/<data set>/    what evaluation reads, and what it reported ("/" of a name is %2F here;
                             a long name is cut, and ends in a hash)
        images.json          the set's name; ids that were evaluated, in order, and those expected
        ground_truth.json.gz COCO-style: images, categories, annotations (+ "difficult")
        image_info.json.gz   instead of it, for a set without annotations: no score then
        coco_instances_results.json, comp4_det_test_<class>.txt; with MODEL.MASK_ON each
                             detection of the first has a mask, too (run lengths)
        ilsvrc_det.txt       ILSVRC DET's, of its sets; images.json has the index of each image
        voc.json, coco.json, coco_segm.json, ilsvrc.json   the JSON of `resdet evaluate`
        proposals.safetensors, recall.json, recall.svg   of an RPN alone, in the place of detections
        samples/<id>.jpg     a few pictures of the set, for the report; listed in samples.json
        parts/               while it runs: finished images, so that a stop loses none
          fingerprint.json   the weights, the config and the set that the parts are of
          part_0000123.json  images, results and seconds; named by the place of its first image
      alternating/           the steps of SOLVER.SCHEME alternating, each a run folder of its own
        1_rpn/ …             with proposals/<data set>/proposals.safetensors of the training images
      rpn/, rcnn/          of localisation: each net's own checkpoints and model_final.pth
      proposals/, localization/<data set>/   its proposals of the training images; result files
                             and rows.json
      profile.json, .svg     where the time of the last command with --profile went
      cls/                   scores of every image, and pages: `resdet evaluate cls`
      ladder/<row>/          rows of table 9, each a run folder: `resdet compare --ladder`
      submissions/<server>/  packages for a server, made by `resdet submit`
      lock.json              the process that has the folder now

Imports nothing, so that every module may take names from here, evaluation too: it knows these
words, and no run folder. VOC's comp4_det_ is the devkit's (`evaluation.voc.detection_files`).

Not for: reading and writing (`folder`), or what a file holds (its writer).
"""

RUN = "run.json"
CONFIG = "config.yaml"
CARD = "card.json"
TRANSFER = "transfer.json"
LEFT_OUT = "left_out.json"
CLASSIFICATION = "classification.json"
LOG = "log.txt"
METRICS = "metrics.json"
LOCK = "lock.json"
PROFILE = "profile.json"
PROFILE_PICTURE = "profile.svg"
# TensorBoard's own names.
EVENTS = "events.out.tfevents.*"

CLASSIFIER = "model.safetensors"
DETECTOR = "model_final.pth"
BEST_CLASSIFIER = "model_best.safetensors"
BEST_DETECTOR = "model_best.pth"

CHECKPOINTS = "checkpoints"
NEWEST_CHECKPOINT = "last"
CHECKPOINT_FILES = "step_*.pth"
CHECKPOINT_NAME = r"step_(\d{7,})\.pth"

RESULTS = "results"
IMAGES = "images.json"
GROUND_TRUTH = "ground_truth.json.gz"
IMAGE_INFO = "image_info.json.gz"
COCO_RESULTS = "coco_instances_results.json"
ILSVRC_RESULTS = "ilsvrc_det.txt"
# By metric.
SCORES = {
    "voc": "voc.json", "coco": "coco.json", "segm": "coco_segm.json", "ilsvrc": "ilsvrc.json"
}  # fmt: skip
SAMPLES = "samples"
SAMPLES_INDEX = "samples.json"
PARTS = "parts"
FINGERPRINT = "fingerprint.json"
PART_FILES = "part_*.json"
SCORE_PART_FILES = "part_*.npz"
PROPOSAL_PART_FILES = "part_*.safetensors"
# Of an RPN alone.
PROPOSALS = "proposals.safetensors"
RECALL = "recall.json"
RECALL_PICTURE = "recall.svg"

ALTERNATING = "alternating"
# Of an RPN step of it: proposals of the training images, a folder for each set.
TRAINING_PROPOSALS = "proposals"

# Of `train_loc`: a folder for each net, the proposals between them, what a test leaves, by its set.
RPN, RCNN = "rpn", "rcnn"
LOC_PROPOSALS = "proposals"
LOCALIZATION = "localization"
LOC_ROWS = "rows.json"

SUBMISSIONS = "submissions"
LADDER = "ladder"
# Of `resdet evaluate cls`.
CLASSIFIER_SCORES = "cls"


def checkpoint_name(steps: int) -> str:
    """The checkpoint after so many steps."""
    return f"step_{steps:07d}.pth"


def part_name(place: int) -> str:
    """The part whose first image has this place in its set."""
    return f"part_{place:07d}.json"


def score_part_name(place: int) -> str:
    """The same for scores of a classifier."""
    return f"part_{place:07d}.npz"


def proposal_part_name(place: int) -> str:
    """The same for proposals."""
    return f"part_{place:07d}.safetensors"
