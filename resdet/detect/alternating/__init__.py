"""RPN and Fast R-CNN apart, and trained in turn: Ren et al.'s four steps, which share files alone.

proposal_making    an RPN over a set, to a file of proposals; goes on after a stop
proposal_scores    the same on a test set, with its recall
proposal_source    files of proposals to the boxes that Fast R-CNN trains and is tested on
proposal_room      how much room files of proposals take
step_configs       what each of the four steps is: a config
step_plans         the four before any is taken: what each writes, and all together
four_steps         the steps one after the other, and the detector that they make
"""
