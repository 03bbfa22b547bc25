"""`Stepped` and `Rounded`: what leaves on an integer grid or in a narrow float have in common."""

from __future__ import annotations

from compress_jax.leaves import grid
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.either import unrounded_of
from compress_jax.leaves.masked import apply_mask
from compress_jax.leaves.wrapper import Wrapper


class Stepped(Leaf):
  """A leaf that stands for `step_size() * steps()`.

  A subclass has a data field `scale` and says what `steps` are.

  Attributes:
    scale: what `step_size` returns where nothing else is said.
    may_exceed_8_bits: whether steps are whole numbers of more than 8 bits, which is known
      when tracing.
  """

  scale: Array | None
  may_exceed_8_bits: bool = False

  exact = ("scale",)

  def steps(self) -> Array:
    """Returns the weights in units of `step_size`, as float32."""
    raise NotImplementedError(f"{type(self).__name__}.steps")

  def step_size(self) -> Array | None:
    """Returns what one of `steps` stands for, laid out like the weights; None for 1."""
    return self.scale

  def dense(self) -> Array:
    values, step = self.steps(), self.step_size()
    if step is not None:
      values = values * grid.spread(step, self.shape)
    return values.astype(self.dtype)


class Rounded(Stepped, Wrapper):
  """A trainable value that acts as if it were rounded already."""

  def masked(self, mask: Array) -> Leaf:
    return self.replace(value=apply_mask(self.value, mask))

  def unrounded(self) -> Array | Leaf:
    return unrounded_of(self.value)
