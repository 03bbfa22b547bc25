"""Entropy coding of integers, masks and floats, near the limit; see README.md."""

from compress_jax.io.coding.arrays import decode, encode
from compress_jax.io.coding.entropy import order0_bytes
from compress_jax.io.coding.stream import CodingError

__all__ = ["CodingError", "decode", "encode", "order0_bytes"]
