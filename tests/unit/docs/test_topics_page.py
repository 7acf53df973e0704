"""Holds docs/topics.md against the code: topics, fields, examples, reason codes, timers, limits and test vectors."""

import ast
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

import coordinator.engine as round_engine
import coordinator.letters
import coordinator.members
import coordinator.pulls
import coordinator.screening
import edge_agent.fetching
import edge_agent.letters
import edge_agent.polling
import edge_agent.reports
import edge_agent.sending
from coordinator import inbox as coordinator_inbox
from coordinator.config import RoundsSection
from coordinator.events import MessageRefused as RefusedByCoordinator
from edge_agent import identity
from edge_agent import inbox as agent_inbox
from edge_agent.events import MessageRefused as RefusedByAgent
from learning.models import MODELS, build_model
from learning.parameters import get_weights
from learning.sampling import batch_indices
from mosquitto.render import BrokerSettings
from mosquitto.sizing import limits_for
from schemas import chunks, messages, pacing, weights, wire
from schemas.errors import Reason
from schemas.identifiers import MAX_ROUND_NUMBER
from schemas.topics import MAX_CHUNK_INDEX, TO_AGENT, TO_COORDINATOR, Address, Kind, Topics
from schemas.versions import CURRENT
from tests.unit.docs import field_words
from tests.unit.docs.markdown import DOCS, Page, code
from transport.ports import Message, SessionSpec
from transport.settings import BrokerSection

ROOT = DOCS.parent
PAGE = Page(DOCS / "topics.md")
TOPICS = Topics()
PACKAGES = ("schemas", "transport", "coordinator", "edge_agent")

TINY: dict[str, weights.Array] = {
    "fc.bias": np.array([1, -0.5], np.float32),
    "fc.weight": np.array([[0.25, 2]], np.float32),
    "steps": np.array(7, np.int64),
}

BLOB_KINDS = (Kind.UPDATE, Kind.MODEL, Kind.AGENT_MODEL, Kind.UPDATE_CHUNK, Kind.MODEL_CHUNK)

LIMITS: dict[str, float] = {
    "wait for a model before asking": edge_agent.fetching.MODEL_WAIT_S,
    "ask again for a model or its chunks": edge_agent.fetching.MODEL_RETRY_S,
    "after a reconnect: wait for one's own retained status": identity.CHECK_S,
    "after a status of another instance: wait for one's own": identity.SETTLE_S,
    "first wait for a receipt": edge_agent.sending.RESEND_S,
    "first wait for any word from the coordinator": edge_agent.polling.POLL_S,
    "longest wait, after doubling": edge_agent.polling.MAX_WAIT_S,
    "chunks asked for at a time": pacing.WINDOW_CHUNKS,
    "reports kept": edge_agent.reports.KEPT_REPORTS,
    "coordinator: asks again for chunks of an update": chunks.RETRY_S,
    "coordinator: unanswered questions for chunks until the next agent has its turn": coordinator.pulls.MAX_RETRIES,
    "coordinator: rounds whose late reports are taken": round_engine.REMEMBERED_ROUNDS,
    "coordinator: latest reports acknowledged by number": coordinator.members.REMEMBERED_REPORTS,
    "coordinator: listens for another coordinator": round_engine.CLAIM_S,
    "coordinator: listens, when a retained status says that there was one": round_engine.CLAIM_AFTER_ONLINE_S,
    "coordinator: waits after a resume for as many agents as the run began with": round_engine.GATHER_S,
    "largest JSON message or blob header": wire.MAX_JSON_BYTES,
    "largest head of a safetensors file": weights.MAX_HEADER_BYTES,
    "most tensors in a blob": weights.MAX_TENSORS,
    "most dimensions of a tensor": weights.MAX_DIMENSIONS,
    "highest round number": MAX_ROUND_NUMBER,
    "highest chunk index": MAX_CHUNK_INDEX,
    "most examples of an update": coordinator.screening.MAX_EXAMPLES,
}

EXPIRIES_S = {
    Kind.REQUEST: edge_agent.letters.REQUEST_EXPIRY_S,
    Kind.UPDATE: edge_agent.letters.UPDATE_EXPIRY_S,
    Kind.OFFER: edge_agent.letters.UPDATE_EXPIRY_S,
    Kind.UPDATE_CHUNK: edge_agent.letters.UPDATE_EXPIRY_S,
    Kind.RECEIPT: coordinator.letters.STANDING_EXPIRY_S,
    Kind.STANDING: coordinator.letters.STANDING_EXPIRY_S,
}


def topic_rows() -> dict[str, dict[str, str]]:
    return {row["kind"]: row for row in PAGE.table("Topics", "kind", "topic").rows}


def example(kind: type[BaseModel]) -> bytes:
    return PAGE.block(f"json {kind.__name__}").encode()


def hexadecimal(info: str) -> bytes:
    return bytes.fromhex(PAGE.block(f"text {info}"))


def reasons_in_use() -> set[str]:
    """Names of the reasons that our packages use, besides the list of reasons itself."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path != ROOT / "schemas/errors.py":
                found |= _reasons_named_in(path)
    return found


def _reasons_named_in(path: Path) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }


def test_page_names_the_version_that_the_code_writes() -> None:
    assert PAGE.headings[0] == f"The wire protocol, version {CURRENT.text}"


def test_topic_table_lists_every_kind_with_its_topic() -> None:
    assert {name: code(row["topic"]) for name, row in topic_rows().items()} == {k.name: k.value for k in Kind}


def test_topic_table_states_who_writes_each_kind() -> None:
    words = {
        **dict.fromkeys(TO_COORDINATOR, "agent to coordinator"),
        **dict.fromkeys(TO_AGENT, "coordinator to one agent"),
        Kind.COORDINATOR_STATUS: "coordinator to all",
        Kind.MODEL: "coordinator to all",
    }
    assert {name: row["direction"] for name, row in topic_rows().items()} == {k.name: words[k] for k in Kind}


def test_topic_table_states_how_long_each_kind_lives() -> None:
    stated = {name: row["expires"] for name, row in topic_rows().items() if row["expires"].endswith(" s")}

    assert stated == {kind.name: f"{seconds} s" for kind, seconds in EXPIRIES_S.items()}


def test_subscriptions_are_those_of_our_own_agents() -> None:
    block = next(block.text for block in PAGE.blocks if block.heading == "Connection")

    filters = block.replace("{P}", "fl").replace("{agent_id}", "room-1").splitlines()

    assert filters == TOPICS.agent_filters("room-1")


@pytest.mark.parametrize("kind", field_words.messages(), ids=lambda kind: kind.__name__)
def test_message_table_describes_every_field(kind: type[messages.Part]) -> None:
    rows = PAGE.table(kind.__name__, "field", "type", "since", "if left out").rows
    stated = [(code(row["field"]), row["type"], row["since"], row["if left out"]) for row in rows]

    assert stated == [
        (
            name,
            field_words.type_words(kind, name),
            field_words.since_words(field),
            field_words.default_words(name, field),
        )
        for name, field in kind.model_fields.items()
    ]


@pytest.mark.parametrize(
    "kind", [k for k in field_words.messages() if issubclass(k, messages.WireMessage)], ids=lambda kind: kind.__name__
)
def test_example_is_what_our_code_writes(kind: type[messages.WireMessage]) -> None:
    decoded = wire.decode(example(kind), kind)

    assert wire.encode(decoded.message, decoded.version.minor) == example(kind)


@pytest.mark.parametrize("kind", [k for k in Kind if k not in BLOB_KINDS], ids=lambda kind: kind.name)
def test_payload_named_in_the_topic_table_is_read_on_that_topic(kind: Kind) -> None:
    message = getattr(messages, re.sub(r"\[(\w+)\].*", r"\1", topic_rows()[kind.name]["payload"]))
    agent_id = "" if kind is Kind.COORDINATOR_STATUS else "room-1"
    topic = TOPICS.build(Address(kind, agent_id, "run-1", 3))

    if kind in TO_AGENT or kind is Kind.COORDINATOR_STATUS:
        event = agent_inbox.Inbox(TOPICS, "room-1").read(topic, example(message))
        assert not isinstance(event, RefusedByAgent)
    if kind in TO_COORDINATOR or kind is Kind.COORDINATOR_STATUS:
        read = coordinator_inbox.Inbox(TOPICS).read(topic, example(message), retained=False)
        assert not any(isinstance(event, RefusedByCoordinator) for event in read)


def test_connection_table_states_our_own_settings() -> None:
    settings = {row["setting"]: row["value"] for row in PAGE.table("Connection", "setting", "value").rows}
    keep_alive, at_most = re.findall(r"(\d+) s", settings["keep alive"])

    session = SessionSpec("room-1", (), Message("will", b""))
    assert settings["session expiry interval"].startswith(f"{session.session_expiry_s} s:")
    assert int(keep_alive) == BrokerSection().keep_alive_s
    assert int(at_most) == BrokerSettings(limits=limits_for(1, 1)).max_keepalive_s


def test_reason_table_lists_every_reason_code() -> None:
    rows = PAGE.table("Refusals", "reason", "answer").rows

    assert [code(row["reason"]) for row in rows] == [reason.value for reason in Reason]


def test_reason_table_marks_exactly_the_unused_codes() -> None:
    rows = PAGE.table("Refusals", "reason", "answer").rows
    unused = {code(row["reason"]) for row in rows if row["answer"] == "not used"}

    assert unused == {reason.value for reason in Reason if reason.name not in reasons_in_use()}


def test_timers_and_limits_are_those_of_the_code() -> None:
    rows = PAGE.table("Timers and limits", "what", "value").rows

    assert {row["what"]: float(row["value"].split()[0]) for row in rows} == LIMITS


def test_defaults_of_a_run_are_those_of_its_configuration() -> None:
    rounds = RoundsSection()

    assert (rounds.chunk_kib, rounds.max_model_mib) == (8 * 1024, 1024)
    assert (rounds.max_update_norm, rounds.report_grace_s) == (1000, 3)


def test_dtype_table_lists_every_dtype_that_travels() -> None:
    rows = PAGE.table("Weight blobs", "dtype", "item bytes").rows
    stated = {code(row["dtype"]): int(row["item bytes"]) for row in rows}

    assert stated == {name: dtype.itemsize for name, dtype in weights.DTYPES.items()}


def test_tensor_table_holds_the_bytes_of_the_test_model() -> None:
    rows = PAGE.table("Test vectors", "name", "dtype").rows

    assert [code(row["name"]) for row in rows] == list(TINY)
    for row in rows:
        array = TINY[code(row["name"])]
        assert bytes.fromhex(code(row["data, hexadecimal"])) == array.tobytes()
        assert row["shape"] == ",".join(map(str, array.shape))


def test_digest_vector_is_the_hash_of_the_bytes_shown() -> None:
    lines = PAGE.block("text hashed").splitlines()
    parts = [re.fullmatch(r"(.*)\\n\[(.*)\]", line) for line in lines]
    shown = b"".join(part[1].encode() + b"\n" + bytes.fromhex(part[2]) for part in parts if part)

    assert hashlib.sha256(shown).hexdigest() == PAGE.block("text digest") == weights.digest(TINY)


def test_blob_vector_is_what_our_code_writes() -> None:
    blob = hexadecimal("blob")

    assert blob == weights.encode(TINY, example(messages.BlobHeader))
    assert hashlib.sha256(blob).hexdigest() == PAGE.block("text blob sha256")
    assert len(blob) == 488


def test_chunk_vector_is_what_our_code_writes() -> None:
    sha256 = PAGE.block("text blob sha256")

    assert hexadecimal("chunk") == chunks.cut(hexadecimal("blob"), sha256, 256, 1, CURRENT.minor)


def test_model_table_lists_the_tensors_of_every_model() -> None:
    rows = PAGE.table("Training", "model", "input").rows
    stated = {code(row["model"]): code(row["tensors"]).split("; ") for row in rows}

    assert stated == {
        name: [f"{key} {','.join(map(str, a.shape))}" for key, a in get_weights(build_model(name, seed=0)).items()]
        for name in sorted(MODELS, key=list(stated).index)
    }


def test_order_of_examples_is_the_one_described() -> None:
    text = '["epoch",7,"room-1",1]'
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")
    draws = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(5)
    second_epoch = np.argsort(draws, kind="stable")

    # Five examples, batches of two: batches 3 and 4 are positions 6 to 9, which lie in the second epoch.
    walked = [batch_indices(5, 2, number, 7, "room-1") for number in (3, 4)]

    assert np.concatenate(walked).tolist() == second_epoch[1:5].tolist()
