"""Leaves that few bytes claim to be, and files of them that `encode` would not write."""

import jax.numpy as jnp

import compress_jax as cj
from compress_jax.io import container
from compress_jax.io.structure import describe

_BLOCK = cj.BlockSparse.from_dense(jnp.eye(1, 4), block=(1, 4))
# Of 14 GiB, were it dense.
HUGE = _BLOCK.replace(dims=(60_000_000, 64), row_counts=(), counts=(1,) + (0,) * 15)
HUGE_ROUNDED = cj.FakeQuant(HUGE, jnp.ones((1, 1)), None, jnp.int32(8), None)


def artifact_of(leaf):
  """Returns the bytes of an artifact with a leaf, under the name "w", whatever it is."""
  structure, arrays = describe({"w": leaf})
  header, body = container.unpack(cj.artifact.encode(arrays))
  return container.pack(header | {"structure": structure}, [body], 0)
