"""Settings: who wins over whom, and that whatever is wrong becomes one line naming place, key and remedy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from schemas.errors import ConfigError
from schemas.identifiers import AgentId
from transport.settings import BrokerSection, FileSettings, Section, load_settings


class Limits(Section):
    count: int = Field(25, ge=1)
    share: float = 1.0
    rooms: tuple[AgentId, ...] = ()
    folder: Path | None = None


class Settings(FileSettings):
    model_config = SettingsConfigDict(env_prefix="SOMETHING_")

    name: AgentId = "nobody"
    data_folder: Path = Path("data")
    quick: bool = False
    limits: Limits = Limits()
    extra: Limits | None = None
    broker: BrokerSection = BrokerSection()


Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a file with this content, and options."""

    def load_text(text: str, options: Mapping[str, Any] | None = None) -> Settings:
        path = tmp_path / "some.toml"
        path.write_text(text)
        return load_settings(Settings, path, options)

    return load_text


def complaint(load: Load, text: str, options: Mapping[str, Any] | None = None) -> str:
    """What is said about a wrong file, without the folder that it is in."""
    with pytest.raises(ConfigError) as caught:
        load(text, options)
    text = str(caught.value)
    return text[text.index("some.toml") :] if "some.toml" in text else text


def test_defaults_hold_when_there_is_no_file() -> None:
    assert load_settings(Settings, None) == Settings()


def test_option_wins_over_environment_and_that_over_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_LIMITS__COUNT", "2")
    monkeypatch.setenv("SOMETHING_LIMITS__SHARE", "0.5")

    settings = load("name = 'one'\n[limits]\ncount = 1\nshare = 0.25", {"limits.count": 3, "name": None})

    assert (settings.name, settings.limits.count, settings.limits.share) == ("one", 3, 0.5)


def test_list_comes_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_LIMITS__ROOMS", '["a", "b"]')

    assert load_settings(Settings, None).limits.rooms == ("a", "b")


def test_environment_does_not_change_settings_made_in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_NAME", "other")

    assert Settings(name="one").name == "one"


def test_paths_are_relative_to_the_file_when_they_stand_in_it(load: Load, tmp_path: Path) -> None:
    settings = load("data_folder = 'here'\n[limits]\nfolder = '/there'\n[extra]\nfolder = '~/home'")

    assert settings.data_folder == tmp_path / "here"
    assert settings.limits.folder == Path("/there")
    assert settings.extra is not None
    assert settings.extra.folder == Path.home() / "home"


def test_path_is_relative_to_the_current_folder_when_it_comes_from_the_environment(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMETHING_DATA_FOLDER", "here")

    assert load("").data_folder == Path.cwd() / "here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quik = true", "some.toml: there is no key 'quik': did you mean 'quick'?"),
        ("[limits]\ncuont = 3", "some.toml: there is no key 'limits.cuont': did you mean 'limits.count'?"),
        ("share = 1.0", "some.toml: there is no key 'share': did you mean 'limits.share'?"),
        ("[limit]\ncount = 3", "some.toml: there is no key 'limit': did you mean 'limits'?"),
        ("xyzzy = 1", "some.toml: there is no key 'xyzzy'"),
        ("[extra]\nrooom = 1", "some.toml: there is no key 'extra.rooom': did you mean 'extra.rooms'?"),
    ],
)
def test_unknown_key_is_refused_with_the_key_that_was_probably_meant(load: Load, text: str, expected: str) -> None:
    assert complaint(load, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limits]\ncount = 'x'", 'some.toml: limits.count: expected a whole number, found "x"'),
        ("[limits]\ncount = '3'", 'some.toml: limits.count: expected a whole number, found "3"'),
        ("[limits]\ncount = true", "some.toml: limits.count: expected a whole number, found true"),
        ("[limits]\ncount = 1.5", "some.toml: limits.count: expected a whole number, found 1.5"),
        ("[limits]\ncount = 0", "some.toml: limits.count: expected 1 or more, found 0"),
        ("[limits]\nshare = 'half'", 'some.toml: limits.share: expected a number, found "half"'),
        ("quick = 1", "some.toml: quick: expected true or false, found 1"),
        ("name = 1", 'some.toml: name: expected text in quotes, such as "x", found 1'),
        ("limits = 1", "some.toml: limits: expected a table: a line [name] and keys below it, found 1"),
    ],
)
def test_value_of_another_type_is_refused_in_words(load: Load, text: str, expected: str) -> None:
    assert complaint(load, text) == expected


def test_identifier_that_is_not_valid_comes_with_a_suggestion(load: Load) -> None:
    assert complaint(load, 'name = "Küche 2"') == (
        "some.toml: name: expected 1 to 63 lower-case letters, digits or '-', not starting with '-' "
        "(such as 'kuche-2'), found \"Küche 2\""
    )


def test_several_mistakes_are_told_in_one_line(load: Load) -> None:
    assert complaint(load, "quick = 1\n[limits]\ncount = 0\ncuont = 1") == (
        "some.toml: quick: expected true or false, found 1; limits.count: expected 1 or more, found 0; "
        "there is no key 'limits.cuont': did you mean 'limits.count'?"
    )


def test_mistake_in_the_environment_names_the_variable(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_LIMITS__COUNT", "many")

    assert complaint(load, "") == (
        'SOMETHING_LIMITS__COUNT in the environment: limits.count: expected a whole number, found "many"'
    )


def test_unknown_key_in_the_environment_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_LIMITS__CUONT", "1")

    assert complaint(load, "").startswith("SOMETHING_LIMITS__CUONT in the environment: there is no key 'limits.cuont'")


def test_list_in_the_environment_that_is_not_json_names_the_variable(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMETHING_LIMITS__ROOMS", "[a")

    assert complaint(load, "").startswith(
        'SOMETHING_LIMITS__ROOMS in the environment: expected JSON, such as ["room-1"'
    )


def test_misspelt_variable_is_warned_about(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOMETHING_DATA_FODLER", "x")
    monkeypatch.setenv("SOMETHING_SERVICE_HOST", "set by something else with the same prefix")

    load("")

    assert [record.message for record in caplog.records] == [
        "SOMETHING_DATA_FODLER in the environment means nothing: did you mean SOMETHING_DATA_FOLDER?"
    ]


def test_mistake_on_the_command_line_is_said_to_be_there(load: Load) -> None:
    assert complaint(load, "", {"limits.count": 0}) == "command line: limits.count: expected 1 or more, found 0"


def test_keys_that_do_not_go_together_are_said_to_be_where_each_of_them_is(load: Load) -> None:
    apart, below = {"broker.cert": "x.crt"}, "[broker]\nkey = 'x.key'\nhost = 'far.example'"

    both = complaint(load, below, {"broker.ca": "ca.crt"})
    assert both.startswith("some.toml and command line: broker: cert and key")
    assert complaint(load, "", apart).startswith("command line: broker: cert and key")


def test_secret_in_the_wrong_place_is_not_shown(load: Load) -> None:
    text = complaint(load, "[broker]\npassword = 'hunter2'")

    assert text == "some.toml: there is no key 'broker.password': did you mean 'broker.password_file'?"


def test_file_that_is_missing_or_no_toml_is_named(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.toml: No such file"):
        load_settings(Settings, tmp_path / "absent.toml")
    assert complaint(load, "a b").startswith("some.toml is not valid TOML: Expected '='")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prefix = 'a/+/b'", "topic prefix 'a/+/b' is not valid"),
        ("host = '10.0.0.1'", "broker: host 10.0.0.1 is not this machine: set ca"),
        ("cert = 'c'", "cert and key belong together"),
        ("cert = 'c'\nkey = 'k'", "cert needs ca"),
        ("password_file = 'p'", "password_file needs username"),
        ("port = 99999", "broker.port: expected 65535 or less, found 99999"),
    ],
)
def test_broker_section_is_refused_when_it_cannot_work(load: Load, text: str, expected: str) -> None:
    assert expected in complaint(load, f"[broker]\n{text}")


def test_password_is_the_first_line_of_its_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("first\nsecond\n")

    address = load("[broker]\nusername = 'me'\npassword_file = 'secret'").broker.address()

    assert (address.username, address.password, address.tls) == ("me", "first", None)


def test_password_file_that_cannot_be_read_is_named(load: Load) -> None:
    broker = load("[broker]\nusername = 'me'\npassword_file = 'absent'").broker

    with pytest.raises(ConfigError, match=r"cannot read the password in .*absent"):
        broker.address()
