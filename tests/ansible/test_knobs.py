"""The list of knobs in group_vars/all.yml is the roles' own, and the example inventory fits the playbook."""

import re
from importlib import metadata

import yaml

from tests.ansible.playbook import ANSIBLE, EXAMPLE_INVENTORY, ROLES, defaults, load

KNOBS = ANSIBLE / "group_vars" / "all.yml"
LINE = re.compile(r"^# ([a-z0-9_]+): (.+)$", re.MULTILINE)
GROUPS = {"broker", "coordinator", "influxdb", "chronograf", "edge_agents"}
# Written for the edge_agent role under the name that people look for.
ALIASES = {"agent_data"}


def documented() -> dict[str, object]:
    found: dict[str, object] = {}
    for name, rest in LINE.findall(KNOBS.read_text()):
        found |= yaml.safe_load(f"{name}: {rest}")
    return found


def test_every_knob_is_listed_when_roles_are_read() -> None:
    assert documented().keys() == defaults().keys() | ALIASES


def test_default_is_the_roles_when_it_is_a_plain_value() -> None:
    listed = documented()

    plain = {name: value for name, value in defaults().items() if "{{" not in str(value)}

    assert {name: listed[name] for name in plain} == plain
    assert len(plain) > 30


def test_nothing_is_set_when_the_list_is_loaded() -> None:
    assert load(KNOBS) is None


def test_example_inventory_has_the_playbooks_groups_when_read() -> None:
    assert load(EXAMPLE_INVENTORY)["all"]["children"].keys() == GROUPS
    hosts = {group for play in load(ANSIBLE / "site.yml") for group in play["hosts"].split(":")}
    assert hosts == GROUPS


def test_every_role_has_a_tag_when_the_table_of_contents_is_read() -> None:
    roles = {role["role"]: role["tags"] for play in load(ANSIBLE / "site.yml") for role in play.get("roles", [])}

    assert roles == {name: [name] for name in roles}
    assert roles.keys() == {path.name for path in ROLES.iterdir()} - {"federation", "identity", "release"}


def test_collection_is_the_installed_one_when_pinned() -> None:
    (collection,) = load(ANSIBLE / "requirements.yml")["collections"]
    installed = metadata.distribution("ansible").locate_file("ansible_collections/community/crypto/MANIFEST.json")

    assert collection["name"] == "community.crypto"
    assert f'"version": "{collection["version"]}"' in installed.read_text()
