"""What stops a config before anything starts: values of one key, and keys that need one another.

leaves            what any value may be, whatever its key
ranges            what values a key may have
dependent_keys    keys that are read with another one alone
training_schemes  what SOLVER.SCHEME goes with
pretraining_keys  a classifier's recipe: what follows from one key, what is refused beside it

Not for: what becomes of Detectron2's keys (`detectron2_keys`), or recipes (`recipe_filling`).
"""
