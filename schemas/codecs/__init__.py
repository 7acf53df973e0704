"""Weights and deltas in fewer bytes: quantised, sparse, entropy-coded, and decoded to the same bits everywhere.

`docs/codecs.md` specifies the format byte by byte. Which codec a run uses, what is sent as a delta from what, and
when a residual takes effect, is for the callers to decide.
"""

from schemas.codecs.codec import decode, encode
from schemas.codecs.difference import apply, difference
from schemas.codecs.feedback import Compressed, compress
from schemas.codecs.rounding import rounding_generator
from schemas.codecs.spec import CAPABILITIES, PLAIN, CodecPair, CodecSpec, Kind, parse_codec, parse_codecs

__all__ = [
    "CAPABILITIES",
    "PLAIN",
    "CodecPair",
    "CodecSpec",
    "Compressed",
    "Kind",
    "apply",
    "compress",
    "decode",
    "difference",
    "encode",
    "parse_codec",
    "parse_codecs",
    "rounding_generator",
]
