"""Backbones in the order of their AP, with what is known of the order: intervals, ties, trust.

leaderboard        rows from run folders; groups that cannot be told apart; correlation of rankings
full_trainings     AP of full trainings, where the user has some
leaderboard_page   the same for a terminal, as JSON and as one HTML page

Not for: training the rows (`resdet.rank`), or two rows in detail (`resdet.report.document`).
"""
