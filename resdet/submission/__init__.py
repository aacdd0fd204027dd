"""Server-ready files from results: made, checked, read back, scored where that can be done.

    check      is this file, or this zip, what a server takes? (`resdet submit check`)
    coco       a run's results as COCO's zip: official ids, best 100 an image, rounded boxes
    voc        a run's results as VOC's tar.gz: one file per class, counted from 1
    ilsvrc     a classifier's scores as ImageNet's text file: five ids per image
    archive    the same bytes each time; a stranger's zip, read with care
    source     what a run folder holds of a data set
    servers    what is known about the servers, with dates (`servers.yaml`)
    ledger     the packages that were made on this machine

Nothing is ever uploaded, and no server is ever asked: there is no network code here.

Not for: scores of results in general (`resdet.evaluation`), or making results (`resdet.detect`).
"""
