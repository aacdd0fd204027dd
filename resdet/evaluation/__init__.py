"""Result files in, numbers out: validation first, then PASCAL VOC's and COCO's metrics.

    voc_files     PASCAL VOC's own files, read strictly (XML, image lists)
    voc           AP as the VOC devkit has it, exact and vectorised
    ground_truth  COCO's instances JSON, checked and counted
    coco          COCO's twelve numbers, by pycocotools
    voc_sets      ground truth and detections as arrays; voc_detections: comp4_det_*.txt
    validate      is this results file what it says it is? asked before every number
    results       the result folder of a run: what it holds, both metrics from it
    commands      `resdet evaluate voc` and `resdet evaluate coco`

Works on anyone's files with numpy and pycocotools alone.

Not for: running a detector, or knowing what a run is.
"""
