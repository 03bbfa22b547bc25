"""Packing and unpacking are inverse, at every width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_jax import packing


@given(st.integers(2, 16), st.integers(0, 50), st.integers(0, 2**31))
def test_signed_integers(bits, count, seed):
  dtype = np.int8 if bits <= 8 else np.int16
  half = 2**(bits - 1)
  x = np.random.default_rng(seed).integers(-half, half, count).astype(dtype)
  data = packing.pack(x, bits)
  assert len(data) == packing.packed_size(count, bits) == -(-count * bits // 8)
  np.testing.assert_array_equal(packing.unpack(data, count, bits, dtype.__name__), x)


@given(st.lists(st.booleans()))
def test_masks_take_a_bit(values):
  x = np.array(values, bool)
  np.testing.assert_array_equal(packing.unpack(packing.pack(x, 1), len(x), 1, "bool"), x)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "uint8"])
def test_full_width_keeps_every_bit(dtype):
  import jax.numpy as jnp
  x = np.frombuffer(np.random.default_rng(0).bytes(80), jnp.dtype(dtype))
  bits = 8 * x.dtype.itemsize
  assert packing.unpack(packing.pack(x, bits), len(x), bits, dtype).tobytes() == x.tobytes()


def test_a_wrong_length_is_refused():
  with pytest.raises(ValueError, match="3 bytes; it must have 4"):
    packing.unpack(b"abc", 8, 4, "int8")
