"""Optimisers and learning-rate schedules by config."""
