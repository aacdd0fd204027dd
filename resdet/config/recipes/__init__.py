"""TRANSFER.RECIPE: how much of a net trains, and by what optimizer and schedule.

transfer_recipes  the recipes as data: keys and values, and which one a config has
recipe_filling    a recipe's values into a config, and what departs from it

Not for: what the keys do (`resdet.engine.solver`, `resdet.detect.architecture`).
"""
