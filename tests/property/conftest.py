"""Hypothesis for all property tests: no time limit per example, as a busy machine is not a failure."""

from hypothesis import settings

settings.register_profile("federation", deadline=None, print_blob=True)
settings.load_profile("federation")
