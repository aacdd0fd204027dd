"""A detector over test sets: result files, their numbers, and what goes on from a stop."""
