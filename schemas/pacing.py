"""How many chunks are on their way at a time: a number of both sides, and of the broker between them.

Nothing is imported here, so that the broker's limits can be computed on a machine that has Ansible alone.
"""

WINDOW_CHUNKS = 4
"""How many chunks a receiver asks for at a time, and a sender sends for one question, at most."""
