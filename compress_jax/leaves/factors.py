"""`Factors`: what leaves that multiply several smaller weights have in common."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from compress_jax.leaves import axes
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.either import dense_of, freeze_of, scaled


class Factors(Leaf):
  """A leaf that stands for a product of its `parts`, each an array or leaf; all train.

  The last part has the outputs: scaling them scales the whole.

  Attributes:
    matrices: names of the parts that are matrices in every slice of a stack; one of two
      dimensions is shared by all slices.
  """

  matrices: ClassVar[tuple[str, ...]] = ()

  @property
  def dtype(self) -> jnp.dtype:
    return jnp.dtype(getattr(self, self.parts[0]).dtype)

  def dense_parts(self) -> list[Array]:
    """Returns the arrays that the parts stand for, in order."""
    return [dense_of(getattr(self, name)) for name in self.parts]

  def freeze(self) -> Leaf:
    return self.replace(**{name: freeze_of(getattr(self, name)) for name in self.parts})

  def scaled(self, factor: Array) -> Leaf:
    last = self.parts[-1]
    return self.replace(**{last: scaled(getattr(self, last), factor)})

  def stacked(self, length: int) -> Leaf:
    out = {}
    for name in self.parts:
      part = getattr(self, name)
      out[name] = axes.stacked(part, length, 2 if name in self.matrices else part.ndim - 1)
    return self.replace(**out)

  def _check_meet(self, left: str, axis: int, right: str, other: int) -> None:
    """Raises a ValueError unless an axis of one part is as long as one of another."""
    a, b = getattr(self, left), getattr(self, right)
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[axis] != b.shape[other]:
      raise ValueError(f"{type(self).__name__}: {left} has shape {tuple(a.shape)}, {right} "
                       f"{tuple(b.shape)}; axis {axis} of {left} must be as long as axis {other} "
                       f"of {right}")
