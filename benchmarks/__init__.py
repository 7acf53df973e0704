"""Benchmarks of the whole system and of its parts; `coordinator bench NAME` runs them."""
