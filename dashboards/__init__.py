"""The dashboards, described once: `python -m dashboards` writes them for Chronograf and Grafana, and their page.

`fleet.py`, `run.py` and `device.py` say what is shown; `chronograf.py`, `grafana.py` and `document.py` write it down.
Nothing here talks to a server.
"""
