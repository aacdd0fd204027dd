"""Result files in, numbers out: validation first, then PASCAL VOC's and COCO's metrics.

For notebooks, what the commands call, on arrays or files:

    evaluate_coco(results, gt, ...)   COCO's twelve numbers
    evaluate_voc(truth, detections)   VOC's AP; both from `voc.voc_evaluation`
    evaluate_folder(folder, ...)      both, from the result folder of a run
    check_results(results, gt, ...)   what is wrong with a results file

The rooms behind them:

    inputs      results and ground truth as arrays, checked; the result folder of a run
    voc         AP as the VOC devkit has it, exact and vectorised
    coco        COCO's twelve numbers, by pycocotools or by an engine that is checked against it
    ilsvrc      ImageNet's DET mAP and LOC error
    analysis    other rules, causes of zero AP, kinds of errors, noise of images and of seeds
    published   the numbers of He et al. 2015, with protocol and source

Works on anyone's files with numpy and pycocotools alone.

Not for: running a detector, or knowing what a run is.
"""

from resdet.evaluation.coco.coco_evaluation import evaluate as evaluate_coco
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.evaluation.inputs.validation import check_results
from resdet.evaluation.voc.voc_evaluation import evaluate as evaluate_voc

__all__ = ["check_results", "evaluate_coco", "evaluate_folder", "evaluate_voc"]
