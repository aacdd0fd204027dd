"""How weights follow from gradients, for both trainers: optimizers, averages, the end by a rule.

optimizers       SOLVER.OPTIMIZER, SOLVER.LAYER_DECAY; weight_average: SOLVER.EMA_DECAY

Not for: when the rate falls (Detectron2's schedules, `resdet.pretrain.recipe.error_schedule`).
"""
