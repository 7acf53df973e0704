"""The command line of the test bed, behind scripts/testbed."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from tests.testbed.bed import Bed, require_root_and_programs
from tests.testbed.golden import golden_layer
from tests.testbed.names import HOSTS, ROOT, SERVER, TestbedError, address, names
from tests.testbed.packages import python_packages
from tests.testbed.provisioning import Playbooks, exec_playbook, lent

_EPILOG = """\
The hosts are Debian in containers, with systemd and sshd, on a network of their own without internet. TESTBED_NAME
names a second test bed beside this checkout's own; TESTBED_CACHE says where the Debian that they start from is kept.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for; 1 when it fails, with the reason on stderr."""
    parser = _parser()
    # What a command hands on may begin with a dash, which argparse takes for an option of ours.
    options, handed_on = parser.parse_known_args(arguments)
    if handed_on and not options.hands_on:
        parser.error(f"unrecognized arguments: {' '.join(handed_on)}")
    options.handed_on = handed_on
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        options.run(options)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("testbed: interrupted; nothing is left behind", file=sys.stderr)
        return 130
    return 0


def _interrupt(number: int, _: object) -> None:
    """A signal to end is a Ctrl-C: what had been made is removed."""
    raise KeyboardInterrupt(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/testbed", description="Five Pis and a server on this machine.", epilog=_EPILOG
    )
    parser.set_defaults(hands_on=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser(
        "prepare", help="make what the hosts start from, which takes minutes; up does it as well"
    )
    prepare.set_defaults(run=_prepare)
    commands.add_parser("up", help="boot the hosts; doing it again changes nothing").set_defaults(run=_up)
    provision = commands.add_parser(
        "provision",
        usage="scripts/testbed provision [OPTION...]",
        help="boot the hosts if need be and run ansible/site.yml on them",
        description="Options go to ansible-playbook, such as --tags broker.",
    )
    provision.set_defaults(run=_provision, hands_on=True)
    shell = commands.add_parser("shell", help="log in on a host: 1 to 5 for a Pi, or server; or run a command there")
    shell.add_argument("host", metavar="N")
    shell.add_argument("command", nargs=argparse.REMAINDER)
    shell.set_defaults(run=_shell)
    commands.add_parser("down", help="remove every host and all that belongs to them").set_defaults(run=_down)
    test = commands.add_parser(
        "test",
        usage="scripts/testbed test [OPTION...]",
        help="prove on hosts of the tests' own what the playbook is for",
        description="Options go to pytest, such as -k revoked.",
    )
    test.set_defaults(run=_test, hands_on=True)
    return parser


def _prepare(_: argparse.Namespace) -> None:
    require_root_and_programs()
    print(f"the hosts' Debian:   {golden_layer()}")
    print(f"the hosts' packages: {python_packages().wheelhouse}")


def _up(_: argparse.Namespace) -> None:
    bed, playbooks = _boot()
    print(f"up: {', '.join(f'{host} {address(host)}' for host in HOSTS)}")
    print(f"ssh configuration: {bed.ssh_config}")
    print(f"in their network:  nsenter --net={bed.names.namespace_file} COMMAND")
    print(f"inventory:         {playbooks.inventory}")
    print("next:              scripts/testbed provision, scripts/testbed shell 1, scripts/testbed down")


def _boot() -> tuple[Bed, Playbooks]:
    require_root_and_programs()
    packages = python_packages()
    bed = Bed(names())
    bed.up(lent(packages))
    playbooks = Playbooks(bed, packages)
    playbooks.write_inventory()
    return bed, playbooks


def _provision(options: argparse.Namespace) -> None:
    _, playbooks = _boot()
    exec_playbook(playbooks, options.handed_on)


def _test(options: argparse.Namespace) -> None:
    require_root_and_programs()
    golden_layer()
    python_packages()
    command = [sys.executable, "-m", "pytest", "-v", "tests/testbed", *options.handed_on]
    os.chdir(ROOT)
    os.execv(command[0], command)  # noqa: S606 (no shell wanted)


def _shell(options: argparse.Namespace) -> None:
    require_root_and_programs()
    host = SERVER if options.host in (SERVER, "0") else f"pi{options.host.removeprefix('pi')}"
    bed = Bed(names())
    if host not in HOSTS:
        raise TestbedError(f"there is no host {options.host!r}: expected 1 to 5, or server")
    if not bed.ssh_config.exists():
        raise TestbedError("the test bed is down: run scripts/testbed up")
    command = bed.ssh(host, *options.command)
    os.execvp(command[0], command)  # noqa: S606 (no shell wanted; the terminal becomes ssh's)


def _down(_: argparse.Namespace) -> None:
    require_root_and_programs()
    Bed(names()).down()
    print(f"down: nothing is left of {', '.join(HOSTS)} (the Debian that they start from stays in the cache)")


if __name__ == "__main__":
    sys.exit(main())
