"""Our blobs and the safetensors library's are the same files; random bytes are refused, never worse."""

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from schemas import chunks
from schemas.errors import PayloadError
from schemas.weights import DTYPES, Array, decode, digest, encode

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any dtype, byte order and shape, in any memory layout."""
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    array: Array = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    if draw(st.booleans()):
        array = array.astype(dtype.newbyteorder(">"))
    layout = draw(st.sampled_from(["as it is", "transposed", "every second", "reversed"]))
    if array.ndim == 0 or layout == "as it is":
        return array
    if layout == "transposed":
        return array.T
    return array[::2] if layout == "every second" else array[::-1]


MODELS = st.dictionaries(NAMES, arrays(), max_size=5)
HEADERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(str.encode)


def little(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"))


def same(left: dict[str, Array], right: dict[str, Array]) -> bool:
    """The same numbers, bit by bit, whatever their byte order in memory."""
    return left.keys() == right.keys() and all(
        little(left[name]).dtype == little(right[name]).dtype
        and left[name].shape == right[name].shape
        and little(left[name]).tobytes() == little(right[name]).tobytes()
        for name in left
    )


@given(MODELS, HEADERS)
def test_arrays_and_header_come_back_whatever_their_dtype_shape_and_layout(
    model: dict[str, Array], header: bytes
) -> None:
    read_header, read = decode(encode(model, header))

    assert read_header == header
    assert same(read, model)


@given(MODELS, HEADERS)
def test_library_reads_what_we_wrote(model: dict[str, Array], header: bytes) -> None:
    assert same(load(encode(model, header)), model)


@given(MODELS)
def test_we_read_what_the_library_wrote(model: dict[str, Array]) -> None:
    # The library writes an array that is not contiguous as if it were.
    plain = {name: np.asarray(little(array), order="C") for name, array in model.items()}

    assert same(decode(save(plain))[1], model)


@given(MODELS, HEADERS, st.randoms())
def test_bytes_and_digest_do_not_depend_on_the_order_of_names(
    model: dict[str, Array], header: bytes, random: object
) -> None:
    names = list(model)
    random.shuffle(names)  # type: ignore[attr-defined]
    shuffled = {name: model[name] for name in names}

    assert encode(shuffled, header) == encode(model, header)
    assert digest(shuffled) == digest(model)


@given(MODELS, HEADERS, st.integers(1, 200))
def test_blob_is_the_same_after_a_way_in_chunks(model: dict[str, Array], header: bytes, chunk_bytes: int) -> None:
    blob = encode(model, header)
    name = "0" * 64

    indices = range(chunks.num_chunks(len(blob), chunk_bytes))
    messages = [chunks.cut(blob, name, chunk_bytes, index, 1) for index in indices]

    assert b"".join(decode(message)[1]["chunk"].tobytes() for message in messages) == blob


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(payload: bytes) -> None:
    try:
        decode(payload)
    except PayloadError:
        return
    # The only well-formed blob of so few random bytes is one that says so.
    assert payload[8:9] == b"{"


@given(MODELS, HEADERS, st.data())
def test_damaged_blobs_are_read_or_refused_and_nothing_else(
    model: dict[str, Array], header: bytes, data: st.DataObject
) -> None:
    blob = bytearray(encode(model, header))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255))
    damaged = bytes(blob[: data.draw(st.integers(0, len(blob)))])

    with contextlib.suppress(PayloadError):
        decode(damaged)
