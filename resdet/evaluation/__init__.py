"""Result files in, numbers out: validation first, then PASCAL VOC's and COCO's metrics.

For notebooks, what the commands call, on arrays or files:

    evaluate_coco(results, gt, ...)   COCO's twelve numbers
    evaluate_voc(truth, found, ...)   VOC's AP; truth and found from the functions of `voc`
    evaluate_folder(folder, ...)      both, from the result folder of a run
    check_results(results, gt, ...)   what is wrong with a results file

The modules behind them:

    voc_files     PASCAL VOC's own files, read strictly (XML, image lists)
    voc           AP as the VOC devkit has it, exact and vectorised
    ground_truth  COCO's instances JSON, checked and counted
    coco          COCO's twelve numbers, by pycocotools or by coco_fast, held against it
    json_stream   results files in pieces (tally: findings counted over them)
    significance  does a difference lie within the noise of the images? seeds: or of the seeds?
    anatomy       which kinds of errors cost how much, and which one detector made and the other not
    voc_sets      ground truth and detections as arrays; voc_detections: comp4_det_*.txt
    validate      is this results file what it says it is? asked before every number
    results       the result folder of a run: what it holds, both metrics from it
    explain       the same detections under every rule that people use (voc_verdicts, coco_verdicts)
    zero          why AP is 0: causes found in the data
    ilsvrc        ImageNet's DET mAP and LOC error; ilsvrc_files: their result files
    paper         the numbers of He et al. 2015 with protocol and source
    commands      `resdet evaluate voc`, `coco` and `explain`

Works on anyone's files with numpy and pycocotools alone.

Not for: running a detector, or knowing what a run is.
"""

from resdet.evaluation.coco import evaluate as evaluate_coco
from resdet.evaluation.results import evaluate_folder
from resdet.evaluation.validate import check_results
from resdet.evaluation.voc import evaluate as evaluate_voc

__all__ = ["check_results", "evaluate_coco", "evaluate_folder", "evaluate_voc"]
