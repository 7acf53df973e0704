"""Weights and deltas in fewer bytes: quantised, sparse, entropy-coded, and decoded to the same bits everywhere.

`docs/codecs.md` specifies the format byte by byte. Which codec a run uses, what is sent as a delta from what, and
when a residual takes effect, is for the callers to decide.
"""

from schemas.codecs.codec import decode, encode
from schemas.codecs.feedback import Compressed, compress
from schemas.codecs.rounding import rounding_generator
from schemas.codecs.spec import CAPABILITIES, CodecSpec, Kind, parse_codec

__all__ = [
    "CAPABILITIES",
    "CodecSpec",
    "Compressed",
    "Kind",
    "compress",
    "decode",
    "encode",
    "parse_codec",
    "rounding_generator",
]
