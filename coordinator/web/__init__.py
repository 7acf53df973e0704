"""The live page: a process of its own that reads a run's folder and shows it in a browser, read-only.

From the record to the browser: `follower.py` reads what is new, `live_run.py` adds it up, `advice.py` says it in plain
words, `overview.py` and `engineer.py` make the two documents, `server.py` serves them, and `static/` shows them.
Nothing here imports the engine, the transport or torch, and nothing writes.
"""
