"""Datasets, runs and attempts in Django's admin, to look things up."""

from marketplace import administration

administration.register("finetuning")
