"""Renders everything that the roles write onto hosts, with Ansible itself, into a folder for the tests to look at."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from mosquitto.sizing import limits_for
from tests.ansible.playbook import EXAMPLE_INVENTORY, ROLES, ROOT, load, run_playbook

MODEL_BYTES, NUM_AGENTS, CHUNK_BYTES = 190_000, 5, 8_388_608
HOST_OF_DEVICES = "pi1"
HOST_OF_SERVICES = "server"


def render_all(folder: Path) -> dict[str, Path]:
    """Every template of every role as the example inventory's hosts would get it, by role and name."""
    out = folder / "rendered"
    out.mkdir()
    playbook = folder / "render.yml"
    playbook.write_text(yaml.safe_dump(list(_plays(out))))
    done = run_playbook(playbook, EXAMPLE_INVENTORY)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path for path in out.iterdir()}


def template_tasks(role: str) -> Iterator[dict[str, Any]]:
    """The tasks of a role that write a template."""
    for path in sorted((ROLES / role / "tasks").glob("*.yml")):
        yield from (task for task in _flat(load(path) or []) if "ansible.builtin.template" in task)


def _plays(out: Path) -> Iterator[dict[str, Any]]:
    for role in sorted(path.name for path in ROLES.iterdir()):
        templates = sorted((ROLES / role / "templates").glob("*.j2"))
        tasks = [_task(role, path, out) for path in templates]
        if role == "broker":
            tasks += [
                _task(role, ROOT / "mosquitto" / "templates" / name, out) for name in ("acl.j2", "mosquitto.conf.j2")
            ]
        if tasks:
            host = HOST_OF_DEVICES if role == "edge_agent" else HOST_OF_SERVICES
            yield {"hosts": host, "gather_facts": False, "vars": _variables(out, role), "tasks": tasks}


def _task(role: str, template: Path, out: Path) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for task in template_tasks(role):
        if str(task["ansible.builtin.template"]["src"]).endswith(template.name):
            variables = task.get("vars", {})
    destination = str(out / f"{role}-{template.name.removesuffix('.j2')}")
    return {
        "name": destination,
        "ansible.builtin.template": {"src": str(template), "dest": destination},
        "vars": variables,
    }


def _variables(out: Path, role: str) -> dict[str, Any]:
    """What the templates of a role see: knobs, internals, and what a real host would have said."""
    found: dict[str, Any] = {}
    for name in ("federation", "identity", "time", role):
        for kind in ("defaults", "vars"):
            path = ROLES / name / kind / "main.yml"
            found |= (load(path) or {}) if path.exists() else {}
    limits = json.dumps(asdict(limits_for(MODEL_BYTES, NUM_AGENTS, CHUNK_BYTES)))
    return found | {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "ansible_become": False,
        "ansible_facts": {"processor_vcpus": 4, "hostname": "server", "all_ipv4_addresses": ["192.168.1.10"]},
        "broker_sized": {"stdout": limits},
        "broker_limits": json.loads(limits),
        "federation_checkout": str(ROOT),
        "federation_secrets": str(out.parent / "secrets"),
    }


def _flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        yield from _flat([*task.get("block", []), *task.get("rescue", [])])
