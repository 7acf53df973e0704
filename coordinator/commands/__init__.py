"""The commands of `coordinator`, one file per group; `coordinator/cli.py` is the table of contents."""
