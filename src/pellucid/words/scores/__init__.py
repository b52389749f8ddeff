"""Scores of labels: simulation, detection and fuzzing, each with its interval and beside shuffled labels."""
