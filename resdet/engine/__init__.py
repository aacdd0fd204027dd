"""What both trainers share: the loop, exact checkpoints, guards. Knows no net and no data set."""
