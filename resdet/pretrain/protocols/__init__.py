"""Test protocols of classification: which views of an image a net sees, and what is averaged.

view_protocol   centre, 10-crop or dense, with sizes and averages, from a card and the options
views           the views of one image
dense_form      a net over images of any size, its class scores at every position
class_order     which class each output of a net is
scoring         log-probabilities of every image, each once, by any number of processes
score_parts     finished images on disk, so that a stop loses none of them

Not for: errors and files of scores (`resdet.evaluation.classification`).
"""
