"""Speed as ratios: each script measures a claim against its baseline in one run.

Machines are shared and noisy, so a ratio inside one run is all that counts. Nothing here is a test.
"""
