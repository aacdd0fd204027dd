"""Backbones ranked by one quick detector on each: `resdet rank` (docs/rank.md).

candidates       what `--backbones` names, and where its weights are
ranking_folder   the folder of a ranking: its plan, and a folder for each row
held_out         the sets that train and test, cut from those that the user names
quick_detector   the config of a row: configs/rank/rank_frozen.yaml with the plan's keys
cost             what a backbone costs here: parameters, multiply-adds, time, memory
budget           steps and images that fit into the time that the user gives
random_weights   a net that was never trained, as a file that ranks like any other
object_scores    LogME on the maps of the objects of a set

A row is a run of `train_det`, so `compare` opens any two.

Not for: training (`resdet.detect`), or the table and the page (`resdet.report.ranking`).
"""
