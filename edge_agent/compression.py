"""An agent's codecs: updates as encoded differences with error feedback, and models put together from differences.

The residual of an update, what its codec lost, is carried like the state of the local rule: it counts only if the
round closes with the update. It travels in the same carry, under names of its own.
"""

from weakref import WeakValueDictionary

from edge_agent.events import Carry, HeldModel
from schemas import wire
from schemas.codecs import Compressed, apply, compress, decode, difference, parse_codec, rounding_generator
from schemas.errors import PayloadError, Reason
from schemas.messages import DifferenceHeader, ModelOffer, RoundAnnouncement
from schemas.weights import Weights, digest, prefix
from schemas.weights import decode as read_blob

_RESIDUAL = "codec-residual/"


def with_residual(carry: Carry, residual: Weights) -> Carry:
    """What is carried of a round, the residual of its update included."""
    return dict(carry) | {_RESIDUAL + name: array for name, array in residual.items()}


def without_residual(carry: Carry) -> tuple[Carry, Weights]:
    """The local rule's own carry, and the residual."""
    own = {name: array for name, array in carry.items() if not name.startswith(_RESIDUAL)}
    residual = {n.removeprefix(_RESIDUAL): array for n, array in carry.items() if n.startswith(_RESIDUAL)}
    return own, residual


def compress_update(
    announcement: RoundAnnouncement, agent_id: str, model: Weights, trained: Weights, residual: Weights
) -> Compressed | None:
    """The difference that training made, as the announcement wants it; None for plain weights.

    What no codec can carry, infinities, goes as it is, for the coordinator to see and refuse.

    Raises:
        PayloadError: unknown-codec.
    """
    if announcement.codec is None:
        return None
    spec = parse_codec(announcement.codec)
    shapes = {name: array.shape for name, array in model.items()}
    fitting = {name: array for name, array in residual.items() if shapes.get(name) == array.shape}
    generator = rounding_generator(announcement.plan.seed, announcement.round_number, agent_id)
    try:
        return compress(difference(trained, model), fitting if len(fitting) == len(residual) else {}, spec, generator)
    except PayloadError:
        return None


class ModelBlob:
    """A blob that came as a model, read once, however often it is looked at.

    Args:
        offer: what the announcement says of it, when there is one already.

    Raises:
        PayloadError: it is none.
    """

    def __init__(self, payload: bytes | memoryview, offer: ModelOffer | None = None) -> None:
        self._payload = payload
        self._size_bytes = len(payload)
        self._sha256 = ""
        self._led_to: tuple[str, HeldModel] | None = None
        if offer is not None:
            self._check_size(offer)
        head, self._arrays = read_blob(payload)
        self._header = wire.decode_header(head).message

    @classmethod
    def of(cls, payload: bytes | memoryview, offer: ModelOffer | None = None) -> "ModelBlob":
        """The blob of a payload; the same one as long as another agent of this process looks at this very payload."""
        shared = _BLOBS.get(id(payload))
        if shared is not None and shared._payload is payload:
            if offer is not None:
                shared._check_size(offer)
            return shared
        blob = _BLOBS[id(payload)] = cls(payload, offer)
        return blob

    def prepare(self) -> None:
        """Do now what need not wait for the announcement."""
        if self._header.kind == "model":
            self._sha256 = self._sha256 or digest(self._arrays)

    def whole(self, announcement: RoundAnnouncement) -> Weights:
        """The weights of a whole model, proven to be the announced ones.

        Raises:
            PayloadError: it is not the announced model.
        """
        offer = announcement.model
        self._check_size(offer)
        if self._header.kind != "model":
            raise PayloadError(
                Reason.MALFORMED, f"a blob of kind {self._header.kind!r} where a whole model was expected"
            )
        self.prepare()
        if self._sha256 != offer.sha256:
            raise PayloadError(Reason.WRONG_DIGEST, "the weights do not have the announced digest")
        return self._arrays

    def follow(self, held: HeldModel | None) -> HeldModel | None:
        """The model that this makes of the one that is held; None when it is no difference from that one.

        Raises:
            PayloadError: it is, but something is wrong with it.
        """
        header = self._header
        if held is None or not isinstance(header, DifferenceHeader) or header.base != prefix(held.sha256):
            return None
        if self._led_to is not None and self._led_to[0] == held.sha256:
            return self._led_to[1]
        model = apply(held.weights, decode(self._arrays, parse_codec(header.codec), held.weights))
        for array in model.values():
            array.flags.writeable = False
        sha256 = digest(model)
        if prefix(sha256) != header.to:
            raise PayloadError(Reason.WRONG_DIGEST, "the difference does not lead to the model that it says")
        led_to = HeldModel(sha256, model)
        self._led_to = (held.sha256, led_to)
        return led_to

    def _check_size(self, offer: ModelOffer) -> None:
        if offer.base is None and self._size_bytes > offer.size_bytes:
            raise PayloadError(Reason.TOO_LARGE, f"{self._size_bytes} bytes, {offer.size_bytes} were announced")


_BLOBS: "WeakValueDictionary[int, ModelBlob]" = WeakValueDictionary()
"""Those that are in use, by the address of their payload: the agents of a simulation are all sent the same bytes."""
