"""Learning strategies: how agents train and how the coordinator moves the model, one file each.

`docs/strategies.md` says how to add one. Nothing here loads torch before an agent trains.
"""
