"""Datasets, runs and predictions under /api/v1/."""
