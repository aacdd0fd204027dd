"""Results and ground truth as arrays, checked before any number is computed.

    result_folder      the result folder of a run: what it contains, and both metrics from it
    ground_truth       COCO's instances JSON as arrays
    detections         a results list as arrays; malformed_entries and fault_counts: what is wrong
    json_stream        results files in pieces of bounded memory
    validation         is this results file what it claims to be?
    image_ids          image ids that results give as stems, names or text
    masks, arrays, findings

Not for: a metric (`voc`, `coco`, `ilsvrc`).
"""
