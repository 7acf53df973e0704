"""Writes `docs/dashboards.md`: what each panel answers, with its query in both languages."""

from dashboards.panels import Dashboard

HEAD = """# Dashboards

Three dashboards, each for Chronograf and for Grafana, over the measurements of [metrics.md](metrics.md). This page and
the JSON files are written by `python -m dashboards` from [one description](../dashboards/__init__.py); a test fails
when they are not up to date.

| | import with | files |
|---|---|---|
| Chronograf, 1.8 or later | *Dashboards*, *Import Dashboard* | `dashboards/chronograf/*.json` |
| Grafana, 11 or later | *Dashboards*, *New*, *Import* | `dashboards/grafana/*.json` |

The Chronograf files say database `fl`; for another one, `python -m dashboards --database NAME --out FOLDER` writes them
anew. Grafana asks for its data source, which knows the database: an InfluxDB with InfluxQL as its query language.

Chronograf 1.9 also takes the files without anybody importing them: copy them into its folder of canned dashboards
(`/usr/share/chronograf/canned` of its Debian package) with the ending `.dashboard`.

What was run, and what was not:

- **run**: every InfluxQL query of both kinds of file, its variables replaced as the tool replaces them, by a test on a
  real InfluxDB 1.6.7 with the data of a real run; each gives rows. The variables' own queries as well.
- **compared**: the structure of the files, with exports of Chronograf and Grafana, key by key and type by type.
- **not run**: importing into Chronograf and Grafana, and the Flux queries below. There is no package of either, and
  none of InfluxDB 2, on the machine that runs the tests.

In the queries, `:time:` stands for the time range that is shown and `:interval:` for a width that suits the screen;
`:run_id:` and `:agent_id:` are chosen at the top of the page. Each tool's file has its own notation for them.
"""


def page(boards: list[Dashboard]) -> str:
    """The whole file."""
    return "\n".join([HEAD, *(_section(board) for board in boards)])


def _section(board: Dashboard) -> str:
    parts = [f"## {board.title.partition(': ')[2].capitalize()}\n", board.about + "\n"]
    for panel in board.panels:
        parts += [
            f"### {panel.title}\n",
            f"{panel.question}.\n" if not panel.question.endswith("?") else f"{panel.question}\n",
            f"```sql\n{panel.query.influxql}\n```\n",
            f"```flux\n{panel.query.flux}\n```\n",
        ]
    return "\n".join(parts)
