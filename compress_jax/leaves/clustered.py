"""`Clustered`: indices into a few shared values."""

from __future__ import annotations

import jax.numpy as jnp

from compress_jax.leaves import base, checking
from compress_jax.leaves.base import Array, Leaf, Payload


@base.node
class Clustered(Leaf):
  """Stands for `codebook[index]`.

  Attributes:
    codebook: float vector of the shared values; trains.
    index: unsigned integers of any shape.
    zero: whether index 0 is an exact zero, whatever its entry in the codebook.

  Example:
    >>> import jax.numpy as jnp
    >>> leaf = Clustered(jnp.array([0.5, 2.0]), jnp.array([0, 1, 1], jnp.uint8), zero=True)
    >>> leaf.dense().tolist()
    [0.0, 2.0, 2.0]
  """

  codebook: Array
  index: Array
  zero: bool = base.static(default=False)

  trains = ("codebook",)
  exact = ("codebook",)
  laid_out = ("index",)
  in_slices = (("codebook", 1),)

  @property
  def shape(self):
    return self.index.shape

  @property
  def dtype(self):
    return self.codebook.dtype

  def dense(self) -> Array:
    if self.codebook.ndim != 1:
      raise ValueError(f"codebook has shape {self.codebook.shape}: a stacked leaf; use jax.vmap")
    # The codebook trains: its first entry may have moved away from zero.
    values = self.codebook[self.index]
    return jnp.where(self.index == 0, 0, values) if self.zero else values

  def freeze(self) -> Clustered:
    return self

  def weight_mask(self) -> Array | None:
    return self.index != 0 if self.zero else None

  def masked(self, mask: Array) -> Clustered:
    if self.zero:
      return self.replace(index=jnp.where(mask, self.index, 0))
    # The exact zero becomes the first entry, and every index moves up by one.
    codebook = jnp.concatenate([jnp.zeros(1, self.dtype), self.codebook])
    dtype = jnp.uint8 if codebook.size <= 256 else jnp.uint16
    index = jnp.where(mask, self.index.astype(dtype) + 1, 0).astype(dtype)
    return Clustered(codebook, index, zero=True)

  def unrounded(self) -> Array:
    return self.dense()

  def payload(self) -> dict[str, Payload]:
    bits = max(1, (self.codebook.shape[-1] - 1).bit_length())
    # Counted as weights: an index whose entry is the zero counts as none.
    zero = 0 if self.zero else -1
    return super().payload() | {"index": Payload(self.index, bits, zero=zero)}

  def validate(self) -> None:
    super().validate()
    checking.float_format("Clustered.codebook", self.codebook.dtype)
    if self.codebook.ndim < 1 or not self.codebook.shape[-1]:
      raise ValueError(f"Clustered.codebook: shape {self.codebook.shape}; must be a vector of at "
                       "least one value")
    if not jnp.issubdtype(self.index.dtype, jnp.unsignedinteger):
      raise ValueError(f"Clustered.index: {self.index.dtype}; must be unsigned integers")
    checking.within(self, "index", 0, self.codebook.shape[-1] - 1)
