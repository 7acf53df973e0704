"""What the network can reach, as functions of bytes: each returns, or raises what is a defect.

A refusal (`PayloadError`) is the right answer to most inputs. Every target has a few inputs to start from, made by the
code itself, so that they never grow old; `corpus/` keeps what once found something, and each of those is a test.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from coordinator.inbox import Inbox as CoordinatorInbox
from coordinator.screening import Expected, screen
from edge_agent.inbox import Inbox as AgentInbox
from schemas import codecs, wire
from schemas.chunks import Assembly, cut, num_chunks
from schemas.errors import PayloadError
from schemas.messages import (
    AgentReport,
    AgentRequest,
    AgentStatus,
    BlobHeader,
    ChunksWanted,
    CoordinatorStatus,
    ModelOffer,
    Receipt,
    RoundAnnouncement,
    RoundRef,
    Standing,
    TrainingPlan,
    UpdateOffer,
    WireMessage,
)
from schemas.topics import Address, Kind, Topics
from schemas.weights import Array, decode, digest, encode

TOPICS = Topics()
HASH = "0" * 64
MODEL: dict[str, Array] = {
    "w": np.array([[0.5, -0.25, 2.0], [1.0, 0.0, -1.0]], np.float32),
    "b": np.array([0.5, 1.5], np.float32),
}
SPECS = tuple(
    codecs.parse_codec(text)
    for text in ("int8", "int4,channel", "fp16", "ternary:0.7", "topk:0.5", "topk:0.5,ternary", "topk:0.5,int4")
)
PLAN = TrainingPlan(model="cnn", local_batches=1, batch_size=1, learning_rate=0.1, seed=1)
MESSAGES: tuple[WireMessage, ...] = (
    AgentStatus(state="online", instance="a"),
    AgentRequest(want="chunks", round=RoundRef(run_id="r", round_number=1), first=0, count=1),
    UpdateOffer(sha256=HASH, size_bytes=1),
    CoordinatorStatus(state="online", session="s", run_id="r"),
    ChunksWanted(run_id="r", round_number=1, first=0, count=1),
    Receipt(run_id="r", round_number=1, outcome="accepted"),
    Standing(phase="waiting", run_id="r", closed_round=1),
    AgentReport(
        download_s=0.1,
        train_s=1.0,
        upload_s=0.1,
        idle_s=0.5,
        batches=10,
        examples=160,
        loss=0.7,
        payload_bytes_up=1,
        payload_bytes_down=1,
        packet_bytes_up=1,
        packet_bytes_down=1,
        cpu_s=1.0,
        peak_rss_bytes=1,
    ),
    RoundAnnouncement(
        run_id="r",
        round_number=1,
        attempt=1,
        plan=PLAN,
        model=ModelOffer(sha256=HASH, size_bytes=1),
        deadline_s=1.0,
        chunk_bytes=1024,
        max_update_bytes=1024,
        last_accepted_round=0,
        recorded_reports=(),
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something to throw bytes at.

    Attributes:
        share: of all executions; what takes longer gets fewer.
        seeds: makes inputs to start from.
    """

    run: Callable[[bytes], None]
    share: float
    seeds: Callable[[], list[bytes]]


def topics(data: bytes) -> None:
    """The topic parser; what it reads it must write again."""
    topic = data.decode(errors="surrogateescape")
    address = TOPICS.parse(topic)
    if address is not None and TOPICS.build(address) != topic:
        raise AssertionError(f"{topic!r} is not the topic of {address}")
    TOPICS.sender(topic)


def messages(data: bytes) -> None:
    """Both inboxes, by the first byte on one of the topics, with JSON behind it; what is read can be written."""
    if data:
        topic = _topics_with_messages()[data[0] % len(_topics_with_messages())]
        CoordinatorInbox(TOPICS).read(topic, data[1:], retained=bool(data[0] & 128))
        AgentInbox(TOPICS, "a").read(topic, data[1:], retained=bool(data[0] & 128))
        kind = type(MESSAGES[data[0] % len(MESSAGES)])
        try:
            wire.encode(wire.decode(data[1:], kind).message)
        except PayloadError:
            return


def blobs(data: bytes) -> None:
    """The head and the body of safetensors files, and everything that an update is checked for."""
    try:
        _, tensors = decode(data)
        if sum(array.nbytes for array in tensors.values()) > len(data):
            raise AssertionError("more numbers than bytes")
        digest(tensors)
    except PayloadError:
        return
    try:
        screened = screen(data, _expected())
    except PayloadError:
        return
    if not all(np.isfinite(array).all() for array in screened.weights.values()):
        raise AssertionError("something that is no number was let in")


def packed(data: bytes) -> None:
    """Every codec: the first byte says which, the rest is a file of packed tensors, or else their codes alone."""
    if not data:
        return
    spec = SPECS[data[0] % len(SPECS)]
    try:
        tensors = decode(data[1:])[1] if data[0] & 128 else _codes_alone(data[1:])
        decoded = codecs.decode(tensors, spec, MODEL)
    except PayloadError:
        return
    if any(decoded[name].shape != array.shape for name, array in MODEL.items()):
        raise AssertionError("a decoded tensor has another shape than in the model")


def chunks(data: bytes) -> None:
    """Chunks in any order, cut off and changed: the assembly takes them or refuses them, and never lies."""
    blob, pieces = _blob_in_chunks()
    assembly = Assembly(len(blob), 64, hashlib.sha256(blob).hexdigest())
    for first in range(0, min(len(data), 64), 4):
        which, index, place, byte = data[first : first + 4].ljust(4, b"\0")
        piece = bytearray(pieces[which % len(pieces)])
        piece[place % len(piece)] ^= byte
        try:
            assembly.add(bytes(piece), index % (len(pieces) + 2))
            if assembly.complete and assembly.blob() != blob:
                raise AssertionError("another blob than the one that was cut")
        except PayloadError:
            continue
    try:
        assembly.add(data, 0)
    except PayloadError:
        return


@cache
def _topics_with_messages() -> list[str]:
    return [TOPICS.build(Address(kind, "a", "r", 1, 0)) for kind in Kind]


@cache
def _update() -> bytes:
    header = BlobHeader(
        kind="update",
        run_id="r",
        round_number=1,
        sender="a",
        base_sha256=digest(MODEL),
        num_examples=10,
        num_batches=1,
    )
    return encode(MODEL, wire.encode(header))


@cache
def _expected() -> Expected:
    return Expected(
        run_id="r",
        round_number=1,
        agent_id="a",
        model=MODEL,
        model_sha256=digest(MODEL),
        max_update_norm=1000.0,
        max_bytes=4096,
    )


@cache
def _blob_in_chunks() -> tuple[bytes, list[bytes]]:
    blob = _update()
    sha256 = hashlib.sha256(blob).hexdigest()
    return blob, [cut(blob, sha256, 64, index, 1) for index in range(num_chunks(len(blob), 64))]


def _codes_alone(data: bytes) -> dict[str, Array]:
    scales = np.array([0.5, 0.25], np.float32)
    return {"codes": np.frombuffer(data, np.uint8), "scales": scales}


def _packed_seeds(number: int) -> list[bytes]:
    tensors = codecs.encode(MODEL, SPECS[number])
    whole = bytes([133 + number]) + encode(tensors)  # 133 is a multiple of 7 above 128
    return [whole, bytes([number]) + tensors["codes"].tobytes()]


TARGETS = {
    "topics": Target(topics, 0.35, lambda: [topic.encode() for topic in _topics_with_messages()]),
    "messages": Target(messages, 0.25, lambda: [bytes([i]) + wire.encode(m) for i, m in enumerate(MESSAGES)]),
    "blobs": Target(blobs, 0.2, lambda: [_update(), encode(MODEL), encode({}), b"\2\0\0\0\0\0\0\0{}"]),
    "packed": Target(packed, 0.1, lambda: [seed for number in range(len(SPECS)) for seed in _packed_seeds(number)]),
    "chunks": Target(chunks, 0.1, lambda: [*_blob_in_chunks()[1], bytes(range(0, 64))]),
}
