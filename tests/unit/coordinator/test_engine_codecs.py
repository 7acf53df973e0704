"""The round engine with codecs: models as differences, updates decoded before they count, and who gets what."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from coordinator.events import AgentAsked, AgentSeen, Publish, UpdateArrived
from schemas import codecs, wire
from schemas.codecs import CodecPair, parse_codec, parse_codecs
from schemas.errors import Reason
from schemas.messages import (
    AgentRequest,
    AgentStatus,
    BlobHeader,
    DifferenceHeader,
    RoundAnnouncement,
    RoundCall,
    RoundRef,
    WireMessage,
)
from schemas.topics import Kind
from schemas.versions import CURRENT
from schemas.weights import Array, Weights, decode, digest, encode, prefix
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, checkpoints, resumed, three

INT8 = parse_codecs("int8")


class Follower:
    """What an agent does with codecs, and nothing else that an agent does: it holds a model and answers."""

    def __init__(self, driver: EngineDriver, agent_id: str, *, first: Weights | None = None) -> None:
        self.driver, self.agent_id = driver, agent_id
        self.held: dict[str, Array] = dict(first or {})
        self.residual: dict[str, Array] = {}

    def join(self, known: tuple[str, ...] = codecs.CAPABILITIES, instance: str = "1") -> None:
        holds = digest(self.held) if self.held else None
        status = AgentStatus(state="online", instance=instance, codecs=known, holds=holds)
        self.driver.handle(AgentSeen(self.agent_id, status, CURRENT.minor))

    def announced(self) -> RoundAnnouncement:
        complete, last = None, None
        for action in self.driver.done:
            if isinstance(action, Publish) and action.address.agent_id == self.agent_id:
                if action.address.kind is Kind.ANNOUNCEMENT:
                    complete = last = wire.decode(action.payload, RoundAnnouncement).message
                elif action.address.kind is Kind.CALL:
                    assert complete is not None
                    last = completed(complete, wire.decode(action.payload, RoundCall).message)
        assert last is not None
        return last

    def ask(self, want: Any) -> None:
        ref = RoundRef(run_id=RUN_ID, round_number=self.driver.open_number)
        self.driver.handle(AgentAsked(self.agent_id, AgentRequest(want=want, round=ref), CURRENT.minor))

    def follow(self, kind: Kind = Kind.MODEL) -> None:
        """Take the last blob, which is to lead to the announced model."""
        blob = self.driver.payloads(kind, "" if kind is Kind.MODEL else self.agent_id)[-1]
        head, packed = decode(blob)
        header = wire.decode_header(head).message
        if isinstance(header, BlobHeader):
            self.held = packed
        else:
            assert header.base == prefix(digest(self.held))
            self.held = codecs.apply(self.held, codecs.decode(packed, parse_codec(header.codec), self.held))
        assert digest(self.held) == self.announced().model.sha256

    def train(self, change: float) -> Weights:
        """Send an update; what the coordinator is to decode of it."""
        announcement = self.announced()
        assert announcement.codec is not None
        moved = {name: np.full(3, change, np.float32) + self.held[name] * 0 for name in self.held}
        generator = codecs.rounding_generator(1, announcement.round_number, self.agent_id)
        sent = codecs.compress(moved, self.residual, parse_codec(announcement.codec), generator)
        self.residual = sent.residual
        self.deliver(sent.packed, codec=announcement.codec)
        return codecs.apply(self.held, sent.decoded)

    def deliver(self, tensors: Mapping[str, Array], **header: Any) -> None:
        announcement = self.announced()
        fields: dict[str, Any] = {"kind": "update", "run_id": RUN_ID, "sender": self.agent_id, "num_batches": 1}
        fields |= {"round_number": announcement.round_number, "base_sha256": digest(self.held), "num_examples": 1}
        message: WireMessage = BlobHeader(**fields | header)
        if "codec" in header:
            base = prefix(digest(self.held))
            message = DifferenceHeader(codec=header["codec"], base=base, num_examples=1, num_batches=1, loss=0.5)
        blob = encode(tensors, wire.encode(message))
        self.driver.handle(UpdateArrived(self.agent_id, RUN_ID, announcement.round_number, blob))


def completed(complete: RoundAnnouncement, call: RoundCall) -> RoundAnnouncement:
    """What a call says in full."""
    assert call.terms == complete.terms
    model = complete.model.model_copy(update={"sha256": call.sha256, "base": call.base, "from_seed": None})
    said = call.model_dump(exclude={"v", "sha256", "base"})
    return complete.model_copy(update=said | {"model": model})


@dataclass
class Case:
    driver: EngineDriver
    agents: list[Follower]


def begun(*names: str, pair: CodecPair = INT8, weights: Weights | None = None, **rules: Any) -> Case:
    first = three(1, -2, 3) if weights is None else weights
    driver = EngineDriver(weights=first, codecs=pair, min_agents=len(names), **rules)
    agents = [Follower(driver, name, first=first) for name in names]
    driver.begin()
    for agent in agents:
        agent.join()
    return Case(driver, agents)


def played(case: Case) -> None:
    """One round in which every agent takes part, up to the announcement of the next one."""
    for number, agent in enumerate(case.agents, 1):
        agent.train(0.1 * number)


def test_first_model_is_not_sent_when_agents_can_derive_it() -> None:
    case = begun("a", "b")
    offer = case.agents[0].announced().model
    assert offer.from_seed
    assert offer.sha256 == digest(case.agents[0].held)
    assert not case.driver.payloads(Kind.MODEL)
    assert not case.driver.payloads(Kind.AGENT_MODEL, "a")


def test_first_model_is_sent_whole_when_an_agent_asks_for_it() -> None:
    case = begun("a", "b")
    case.agents[0].ask("model")
    case.agents[0].held = {}
    case.agents[0].follow(Kind.AGENT_MODEL)
    assert not case.driver.payloads(Kind.AGENT_MODEL, "b")


def test_next_model_is_sent_as_a_difference_that_leads_to_the_announced_digest() -> None:
    case = begun("a", "b")
    for _ in range(2):
        case.driver.forget()
        played(case)
        (blob,) = case.driver.payloads(Kind.MODEL)
        assert set(decode(blob)[1]) == {"codes", "scales"}
        for agent in case.agents:
            assert agent.announced().model.base == prefix(digest(agent.held))
        case.agents[0].follow()
        case.agents[1].held = case.agents[0].held


def test_aggregate_is_the_mean_of_the_decoded_updates() -> None:
    case = begun("a", "b")
    decoded = [agent.train(0.1 * number) for number, agent in enumerate(case.agents, 1)]
    mean = (decoded[0]["w"].astype(np.float64) + decoded[1]["w"]) / 2
    np.testing.assert_array_equal(case.driver.engine.model["w"], mean.astype(np.float32))


def test_global_model_keeps_what_the_codec_lost_of_it() -> None:
    pair = parse_codecs("fp32/ternary:0")
    driver = EngineDriver(weights=three(0, 0, 0), codecs=pair, rounds=2)
    agent = Follower(driver, "a", first=three(0, 0, 0))
    driver.begin()
    agent.join()
    agent.deliver(three(1, 2, 3))
    assert driver.model() == [1, 2, 3]
    agent.follow()
    assert agent.held["w"].tolist() == [2, 2, 2]  # one scale, the mean of the three changes
    agent.deliver(three(2, 2, 2))  # nothing was learnt
    assert driver.model() == [1, 2, 3]


def test_agent_without_codecs_takes_part_in_the_same_round_with_whole_weights() -> None:
    driver = EngineDriver(weights=three(1, 2, 3), codecs=INT8, min_agents=2)
    new = Follower(driver, "new", first=three(1, 2, 3))
    driver.begin()
    new.join()
    driver.join("old", minor=1)
    announcement = driver.messages(RoundAnnouncement, "old")[0]
    assert announcement.codec is None
    assert announcement.model.from_seed is None
    assert decode(driver.payloads(Kind.AGENT_MODEL, "old")[0])[1]["w"].tolist() == [1, 2, 3]
    driver.deliver("old", three(3, 2, 1))
    sent = new.train(0.5)
    assert driver.records()[0].accepted == ("new", "old")
    np.testing.assert_array_equal(driver.engine.model["w"], (sent["w"] + three(3, 2, 1)["w"]) / 2)
    # And in the next one: the whole model to one, the difference to the other.
    new.follow(Kind.AGENT_MODEL)
    _, weights = decode(driver.payloads(Kind.AGENT_MODEL, "old")[-1])
    assert digest(weights) == digest(new.held)


def test_whole_model_is_announced_and_sent_when_an_agent_can_do_nothing_with_the_difference() -> None:
    case = begun("a", "b")
    played(case)
    lost = case.agents[1]
    lost.held = {}
    case.driver.forget()
    lost.ask("whole")
    offer = lost.announced().model
    assert offer.base is None
    assert offer.codec == "int8"
    lost.follow(Kind.AGENT_MODEL)
    case.agents[0].held = lost.held
    played(case)
    assert case.driver.records()[1].accepted == ("a", "b")


def test_late_joiner_gets_a_whole_model_while_the_others_get_the_difference() -> None:
    case = begun("a")
    played(case)
    case.agents[0].follow()
    late = Follower(case.driver, "late")
    late.join()
    case.driver.forget()
    played(case)
    assert late.announced().model.base is None
    late.follow(Kind.AGENT_MODEL)
    assert case.agents[0].announced().model.base is not None


def test_agent_that_restarts_gets_the_difference_when_it_holds_the_model_before() -> None:
    case = begun("a", "b")
    played(case)
    case.driver.forget()
    case.agents[0].join(instance="2")
    assert case.agents[0].announced().model.base == prefix(digest(case.agents[0].held))
    case.agents[0].follow(Kind.AGENT_MODEL)


def test_difference_goes_to_all_when_only_some_are_selected() -> None:
    case = begun("a", "b", "c", fraction=0.3, rounds=4, weights={"w": np.ones(3000, np.float32)})
    taking_part = [agent for agent in case.agents if case.driver.messages(RoundAnnouncement, agent.agent_id)]
    assert len(taking_part) == 1
    case.driver.forget()
    agent = taking_part[0]
    agent.deliver({"w": np.full(3000, 2, np.float32)})
    assert len(case.driver.payloads(Kind.MODEL)) == 1
    assert not any(case.driver.payloads(Kind.AGENT_MODEL, other.agent_id) for other in case.agents)


def test_resumed_coordinator_sends_the_same_bytes() -> None:
    case = begun("a", "b", pair=parse_codecs("int8,stochastic/int4,stochastic"))
    case.driver.forget()
    played(case)
    blob, offer = case.driver.payloads(Kind.MODEL)[0], case.agents[0].announced().model
    again = resumed(case.driver, checkpoints(case.driver.done)[-1], recorded=True, codecs=case.driver.rules.codecs)
    again.begin()
    for agent in case.agents:
        agent.driver = again
        agent.join()
    assert again.payloads(Kind.MODEL) == [blob]
    again_offered = case.agents[0].announced().model
    assert (again_offered.sha256, again_offered.base) == (offer.sha256, offer.base)


def test_update_in_another_codec_than_was_asked_for_is_refused() -> None:
    case = begun("a", "b")
    agent = case.agents[0]
    agent.deliver(codecs.encode(agent.held, parse_codec("int4")), codec="int4")
    assert case.driver.outcomes("a") == [("refused", Reason.UNKNOWN_CODEC)]


@pytest.mark.parametrize("size", [10**7, 10**8])  # the first one is small enough to be looked into
def test_decompression_bomb_is_refused_and_counted(size: int) -> None:
    case = begun("a", "b", min_updates=1)
    agent = case.agents[0]
    packed = codecs.encode(agent.held, INT8.up)
    packed["codes"] = bomb(size)
    agent.deliver(packed, codec="int8")
    assert case.driver.outcomes("a") == [("refused", Reason.TOO_LARGE)]
    case.agents[1].train(0.1)
    assert case.driver.refusals() == {"a": {Reason.TOO_LARGE: 1}}


def test_norm_of_what_was_decoded_is_bounded() -> None:
    case = begun("a", "b", max_update_norm=10.0)
    case.agents[0].train(100.0)
    assert case.driver.outcomes("a") == [("refused", Reason.NORM_EXCEEDED)]


def test_decoded_values_beyond_float32_are_refused() -> None:
    case = begun("a", weights=three(3e38, 3e38, 3e38))
    case.agents[0].deliver(codecs.encode(three(3e38, 3e38, 3e38), INT8.up), codec="int8")
    assert case.driver.outcomes("a") == [("refused", Reason.NON_FINITE)]


def bomb(size: int) -> Array:
    """A small DEFLATE stream of so many zeros."""
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    block = bytes(10**6)
    parts = [deflater.compress(block) for _ in range(max(1, size // 10**6))]
    return np.frombuffer(b"".join([*parts, deflater.flush()]), np.uint8)


def test_agent_that_went_on_to_a_model_of_a_lost_round_is_sent_the_whole_one_again() -> None:
    case = begun("a", "b", rounds=5, evaluate=False)
    played(case)
    for agent in case.agents:
        agent.follow()
    saved = checkpoints(case.driver.done)[-1]
    case.driver.hold = True
    case.driver.forget()
    played(case)
    ahead = case.driver.payloads(Kind.MODEL)
    assert len(ahead) == 1, "the third model is under way, and the second round is not on the disk"
    again = resumed(case.driver, saved, recorded=True, codecs=INT8, min_agents=2, rounds=5, evaluate=False)
    again.begin()
    for agent in case.agents:
        agent.driver = again
        _, packed = decode(ahead[-1])
        agent.held = codecs.apply(agent.held, codecs.decode(packed, parse_codec("int8"), agent.held))
        agent.join(instance="1")
    for agent in case.agents:
        assert agent.announced().round_number == 2
        assert agent.announced().model.base is None
