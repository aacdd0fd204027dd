"""Speed as ratios: each script measures a claim against its baseline in one run.

Machines are shared and noisy, so a ratio inside one run is all that counts. Nothing here is a test.

classification, detection, evaluation: what `python -m benchmarks` runs, with loading and
two_processes, which are of both trainers. gpu: `python -m benchmarks --gpu`. scale, kills: sets of
real size, trainings that are killed. claims: the form of a result; apart, turns: ways of measuring.
"""
