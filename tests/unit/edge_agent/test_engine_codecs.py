"""The participant engine with codecs: the first model, models as differences, and updates with error feedback."""

from typing import Any

import numpy as np
import pytest

from edge_agent.events import (
    Announced,
    DeriveModel,
    HeldModel,
    KeepModel,
    ModelArrived,
    ModelDerived,
    StartTraining,
    TrainingFinished,
)
from schemas import codecs, wire
from schemas.codecs import parse_codec
from schemas.messages import AgentStatus, DifferenceHeader
from schemas.topics import Kind
from schemas.weights import Weights, decode, digest, encode, prefix
from tests.unit.edge_agent.scripted import RUN, Agent, accepted, announced, arrived, model, stood, trained

INT4 = parse_codec("int4")


def compressed(round_number: int, weights: Weights, *, update: str | None = "int4", **offer: Any) -> Announced:
    """An announcement of a run with codecs."""
    plain = announced(round_number, weights, last_accepted_round=round_number - 1)
    said = plain.announcement.model.model_copy(update={"codec": "int4"} | offer)
    announcement = plain.announcement.model_copy(update={"model": said, "codec": update})
    return Announced(announcement, plain.minor)


def leading_from(base: Weights, round_number: int, change: float = 1.0) -> tuple[ModelArrived, Weights]:
    """A difference, and the model that it leads to."""
    packed = codecs.encode({"w": np.array([change, -change, 0], np.float32)}, INT4)
    weights = codecs.apply(base, codecs.decode(packed, INT4, base))
    return ModelArrived(RUN, round_number, difference_blob(packed, base, weights, round_number)), weights


def difference_blob(packed: Weights, base: Weights, weights: Weights, round_number: int) -> bytes:
    assert round_number
    header = DifferenceHeader(codec="int4", base=prefix(digest(base)), to=prefix(digest(weights)))
    return encode(packed, wire.encode(header))


def holding(weights: Weights) -> Agent:
    """An agent that has trained round 1 from these weights."""
    agent = Agent()
    agent.take(compressed(1, weights), arrived(1, weights))
    agent.take(trained(1))
    agent.take(accepted(1))
    return agent


def sent_values(agent: Agent, base: Weights) -> tuple[str | None, Weights]:
    """The codec and the decoded values of the update that was just sent."""
    (message,) = agent.sent(Kind.UPDATE)
    head, tensors = decode(message.payload)
    codec = wire.decode_header(head).message.codec
    return codec, tensors if codec is None else codecs.decode(tensors, parse_codec(codec), base)


# -- the first model


def test_first_model_is_derived_and_trained_when_it_is_the_announced_one() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1), from_seed=True))
    assert len(agent.of(DeriveModel)) == 1
    assert not agent.requests()
    agent.take(ModelDerived(RUN, 1, model(1)))
    assert agent.of(StartTraining)[0].weights["w"].tolist() == [1, 1, 1]
    assert not agent.sent(Kind.REQUEST)


@pytest.mark.parametrize("derived", [model(2), None])
def test_first_model_is_asked_for_when_it_cannot_be_derived(derived: Weights | None) -> None:
    agent = Agent()
    agent.take(compressed(1, model(1), from_seed=True))
    agent.take(ModelDerived(RUN, 1, derived, "" if derived else "unknown model"))
    assert [request.want for request in agent.requests()] == ["model"]
    agent.take(arrived(1, model(1)))
    assert len(agent.of(StartTraining)) == 1


def test_first_model_is_not_asked_for_while_it_is_being_derived() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1), from_seed=True))
    agent.wait(15)
    assert not agent.requests()
    agent.reconnect()
    agent.wait(5)
    assert not [request for request in agent.requests() if request.want == "model"]


def test_derived_model_is_dropped_when_its_round_is_over() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1), from_seed=True))
    agent.take(stood(1))
    agent.take(ModelDerived(RUN, 1, model(1)))
    assert not agent.of(StartTraining)


# -- differences


@pytest.mark.parametrize("announcement_first", [True, False])
def test_training_starts_from_the_model_that_a_difference_leads_to(announcement_first: bool) -> None:
    agent = holding(model(1))
    blob, weights = leading_from(model(1), 2)
    invitation = compressed(2, weights, base=prefix(digest(model(1))))
    agent.take(*((invitation, blob) if announcement_first else (blob, invitation)))
    assert digest(agent.of(StartTraining)[0].weights) == digest(weights)
    assert not agent.requests()


def test_model_is_held_on_to_and_kept_on_disk_when_the_next_one_will_be_a_difference() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1)), arrived(1, model(1)))
    assert [keep.model.sha256 for keep in agent.of(KeepModel)] == [digest(model(1))]
    agent.reconnect()
    (status,) = agent.sent(Kind.STATUS)
    assert wire.decode(status.payload, AgentStatus).message.holds == digest(model(1))


def test_model_of_a_run_without_codecs_is_not_held() -> None:
    agent = holding(model(1))
    agent.take(announced(2, last_accepted_round=1), arrived(2))
    agent.reconnect()
    (status,) = agent.sent(Kind.STATUS)
    assert wire.decode(status.payload, AgentStatus).message.holds is None


def test_differences_are_followed_when_the_agent_is_not_selected() -> None:
    agent = holding(model(1))
    second, weights = leading_from(model(1), 2)
    third, last = leading_from(weights, 3)
    agent.take(second, third)
    agent.take(compressed(3, last, base=prefix(digest(weights))))
    assert digest(agent.of(StartTraining)[0].weights) == digest(last)


def test_whole_model_is_asked_for_at_once_when_the_difference_is_from_another_model() -> None:
    agent = holding(model(1))
    blob, weights = leading_from(model(5), 2)
    agent.take(blob, compressed(2, weights, base=prefix(digest(model(5)))))
    assert [request.want for request in agent.requests()] == ["whole"]
    agent.take(arrived(2, weights))
    assert digest(agent.of(StartTraining)[0].weights) == digest(weights)


def test_whole_model_is_asked_for_once_when_more_differences_come() -> None:
    agent = holding(model(1))
    blob, weights = leading_from(model(5), 2)
    agent.take(compressed(2, weights, base=prefix(digest(model(5)))))
    agent.take(blob, blob)
    assert not agent.requests()


def test_whole_model_is_asked_for_when_a_difference_does_not_lead_to_the_announced_one() -> None:
    agent = holding(model(1))
    blob, weights = leading_from(model(1), 2)
    wrong = {"w": weights["w"] + 1}
    agent.take(blob, compressed(2, wrong, base=prefix(digest(model(1)))))
    assert [request.want for request in agent.requests()] == ["whole"]
    agent.take(compressed(2, wrong), arrived(2, wrong))
    assert digest(agent.of(StartTraining)[0].weights) == digest(wrong)


def test_difference_that_lies_about_where_it_leads_is_refused_and_the_whole_model_asked_for() -> None:
    agent = holding(model(1))
    packed = codecs.encode(model(1), INT4)
    lie = ModelArrived(RUN, 2, difference_blob(packed, model(1), model(7), 2))
    agent.take(compressed(2, model(7), base=prefix(digest(model(1)))), lie)
    assert "does not lead" in agent.told()
    assert [request.want for request in agent.requests()] == ["whole"]


def test_difference_that_is_lost_is_asked_for_again() -> None:
    agent = holding(model(1))
    _, weights = leading_from(model(1), 2)
    agent.take(compressed(2, weights, base=prefix(digest(model(1)))))
    agent.wait(3)
    assert [request.want for request in agent.requests()] == ["model"]


def test_no_model_needs_to_come_when_the_round_is_repeated() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1)), arrived(1, model(1)))
    again = compressed(1, model(1), base="0" * 16)
    repeated = again.announcement.model_copy(update={"attempt": 2})
    agent.take(stood(0, "waiting"), stood(0))
    agent.take(trained(1), Announced(repeated, again.minor))
    assert not agent.requests()


def test_agent_goes_on_from_the_model_on_its_disk_when_it_restarts() -> None:
    agent = Agent(held=HeldModel(digest(model(1)), model(1)))
    blob, weights = leading_from(model(1), 2)
    agent.take(compressed(2, weights, base=prefix(digest(model(1)))), blob)
    assert len(agent.of(StartTraining)) == 1


# -- updates


def test_update_is_the_encoded_difference_that_training_made() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1)), arrived(1, model(1)))
    agent.take(trained(1, value=1.5))
    codec, values = sent_values(agent, model(1))
    assert codec == "int4"
    np.testing.assert_allclose(values["w"], 0.5, rtol=1e-6)


def test_update_is_plain_when_no_codec_was_asked_for() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1), update=None), arrived(1, model(1)))
    agent.take(trained(1, value=1.5))
    codec, values = sent_values(agent, model(1))
    assert codec is None
    np.testing.assert_array_equal(values["w"], [1.5] * 3)


def test_update_goes_as_it_is_when_training_diverged() -> None:
    agent = Agent()
    agent.take(compressed(1, model(1)), arrived(1, model(1)))
    agent.take(trained(1, value=np.inf))
    assert sent_values(agent, model(1))[0] is None


@pytest.mark.parametrize("counted", [True, False])
def test_what_the_codec_lost_is_sent_with_the_next_update_when_the_last_one_counted(counted: bool) -> None:
    agent = Agent()
    agent.take(compressed(1, model(0)), arrived(1, model(0)))
    agent.take(uneven(1, [7.0, 0.4, 0.4]))
    assert sent_values(agent, model(0))[1]["w"].tolist() == [7, 0, 0]
    agent.take(accepted(1))
    again = compressed(2, model(0))
    told = again.announcement.model_copy(update={"last_accepted_round": 1 if counted else 0})
    agent.take(Announced(told, again.minor), arrived(2, model(0)))
    assert dict(agent.of(StartTraining)[0].carry) == {}
    agent.take(uneven(2, [7.0, 0.4, 0.4]))
    assert sent_values(agent, model(0))[1]["w"].tolist() == ([7, 1, 1] if counted else [7, 0, 0])


def test_same_bytes_are_sent_again_when_the_round_is_repeated() -> None:
    agent = Agent()
    invitation = compressed(1, model(1), update="int8,stochastic")
    agent.take(invitation, arrived(1, model(1)))
    agent.take(trained(1, value=1.3))
    (first,) = agent.sent(Kind.UPDATE)
    repeated = invitation.announcement.model_copy(update={"attempt": 2})
    agent.take(accepted(1), Announced(repeated, invitation.minor))
    assert [message.payload for message in agent.sent(Kind.UPDATE)] == [first.payload]


def uneven(round_number: int, values: list[float]) -> TrainingFinished:
    return TrainingFinished(RUN, round_number, {"w": np.array(values, np.float32)}, 7, 1, 0.5)
