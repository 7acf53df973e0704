"""A model's blob is read once, however many agents of a process look at it, and is let go of with them."""

import gc
import weakref

import pytest

from edge_agent.compression import ModelBlob
from edge_agent.events import HeldModel
from schemas.errors import PayloadError
from schemas.messages import ModelOffer
from schemas.weights import digest
from tests.unit.edge_agent.scripted import model, model_blob
from tests.unit.edge_agent.test_engine_codecs import leading_from


def test_blob_is_shared_when_it_is_the_very_same_payload() -> None:
    payload = model_blob(model(1))
    assert ModelBlob.of(payload) is not ModelBlob.of(bytes(bytearray(payload)))
    blob = ModelBlob.of(payload)
    assert ModelBlob.of(payload) is blob


def test_shared_blob_is_held_against_each_offer() -> None:
    payload = model_blob(model(1))
    blob = ModelBlob.of(payload)
    small = ModelOffer(sha256=digest(model(1)), size_bytes=len(payload) - 1)
    with pytest.raises(PayloadError, match="too-large"):
        ModelBlob.of(payload, small)
    assert ModelBlob.of(payload) is blob


def test_difference_is_followed_once_for_all_who_hold_its_base() -> None:
    first = model(1)
    arrived, second = leading_from(first, 2)
    blob = ModelBlob.of(arrived.payload)
    led_to = blob.follow(HeldModel(digest(first), first))
    assert led_to is not None
    assert led_to.sha256 == digest(second)
    assert blob.follow(HeldModel(digest(first), first)) is led_to
    assert blob.follow(HeldModel(digest(second), second)) is None


def test_blob_is_let_go_of_when_nobody_looks_at_it_any_more() -> None:
    blob = weakref.ref(ModelBlob.of(model_blob(model(1))))
    gc.collect()
    assert blob() is None
