"""Commands that train and score: detectors (`train_det`), classifiers (`pretrain_cls`).

training_command    what each begins with: the config, the process, where to write, resume
stored_config       a run's own config beside that of a command
scored_run          which run and model --eval-only scores
run_folder          the run folder: made or resumed, locked, with how the command ended
detection_sets      a detector's data sets
starting_point      what a detector is filled with
"""
