"""How the input of a layer is quantized: on a grid fixed beforehand, or on its own."""

from __future__ import annotations

from typing import Self

import jax
import jax.numpy as jnp

from compress_jax.leaves import base, checking, grid
from compress_jax.leaves.base import Array


@base.node
class StaticGrid(base.Node):
  """A grid fixed beforehand (static quantization).

  Attributes:
    scale: float32 scalar. A stack of grids has one for each layer of a stack of weights.
    zero_point: int32 like `scale`, or None for a symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced.
    may_exceed_8_bits: whether bits may be more than 8, which is known when tracing.
    learned: whether `scale` trains (LSQ). The first axis of an input with more than one is taken
      for that of its batch: `jax.vmap` over examples belongs inside the function that is lifted.

  Example:
    >>> import jax.numpy as jnp
    >>> StaticGrid(jnp.float32(0.5), None, jnp.int32(8)).fake_quantize(jnp.array([0.7])).tolist()
    [0.5]
  """

  scale: Array
  zero_point: Array | None
  bits: Array
  may_exceed_8_bits: bool = base.static(default=False)
  learned: bool = base.static(default=False)

  exact = ("scale",)
  former_names = ("Activation",)
  former_statics = (("wide", "may_exceed_8_bits"),)

  @property
  def trains(self):
    return ("scale",) if self.learned else ()

  def for_input(self, x: Array) -> StaticGrid:
    """Returns the grid for this input: itself.

    Args:
      x: float array, the input.

    Returns:
      The grid; a step that trains is positive in it.

    Raises:
      UnsupportedError: it is a stack of grids.
    """
    _check_single(self)
    return self.deployed()

  def deployed(self) -> StaticGrid:
    """Returns the grid as it is stored: a step that trains may have crossed zero."""
    return self.replace(scale=grid.positive(self.scale)) if self.learned else self

  def quantize_to_grid(self, x: Array) -> Array:
    """Returns an input in units of `scale` from zero.

    Args:
      x: float array, the input.

    Returns:
      `q - zero_point` as integer-valued float32; see `grid.quantize_to_grid`.
    """
    return grid.quantize_to_grid(x, self.deployed().scale, self.zero_point, self.bits)

  def fake_quantize(self, x: Array) -> Array:
    """Returns an input rounded to the grid.

    Args:
      x: float array, the input.

    Returns:
      float32, with the straight-through gradient.
    """
    scale = self.scale
    if self.learned:
      # Esser et al. 2020, section 2.2: N is the features that one example has, Q_P the largest
      # whole number that the grid reaches.
      features = x.size / max(1, x.shape[0] if x.ndim > 1 else 1)
      largest = grid.limits(self.bits, self.zero_point is None)[1]
      if self.zero_point is not None:
        largest = jnp.maximum(largest - self.zero_point.astype(jnp.float32), 1)
      scale = grid.positive(grid.scale_gradient(scale, jax.lax.rsqrt(features * largest)))
    steps = grid.quantize_to_grid(x, scale, self.zero_point, self.bits, self.learned)
    return steps * scale

  def validate(self) -> None:
    super().validate()
    checking.bits(self, self.bits)
    checking.steps(self, self.scale)


@base.node
class Dynamic(base.Node):
  """A grid that spans each input's own range (dynamic quantization).

  The range is the whole input's, so that an image's result depends on the others
  in its batch; `jax.vmap` over images gives each its own.

  Attributes:
    bits: int32 scalar, 2 to 16; may be traced.
    symmetric: whether 0.0 is the grid's middle.
    may_exceed_8_bits: whether bits may be more than 8, which is known when tracing.

  Example:
    >>> import jax.numpy as jnp
    >>> grid = Dynamic(jnp.int32(8)).for_input(jnp.array([0.0, 2.55]))
    >>> round(float(grid.scale), 6)
    0.01
  """

  bits: Array
  symmetric: bool = base.static(default=False)
  may_exceed_8_bits: bool = base.static(default=False)

  former_statics = (("wide", "may_exceed_8_bits"),)

  def for_input(self, x: Array) -> StaticGrid:
    """Returns the grid that spans this input; no gradient flows into its range.

    Args:
      x: float array, the input.

    Returns:
      The grid.

    Raises:
      UnsupportedError: it is a stack of grids.
    """
    _check_single(self)
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    # Any grid holds 0, so that starting there changes nothing, but for a batch of no rows.
    low, high = x.min(initial=0), x.max(initial=0)
    scale, zero_point = grid.affine(low, high, self.bits, self.symmetric)
    return StaticGrid(scale, zero_point, self.bits, may_exceed_8_bits=self.may_exceed_8_bits)

  def deployed(self) -> Dynamic:
    """Returns the grid as it is stored: itself."""
    return self

  def validate(self) -> None:
    super().validate()
    checking.bits(self, self.bits)


def _check_single(grid: StaticGrid | Dynamic) -> None:
  """Refuses a stack of grids, which would be laid over the axes of a single input."""
  for x in jax.tree.leaves(grid):
    if jnp.ndim(x):  # an export has a plain number among them
      raise base.UnsupportedError(f"input: a stack of {jnp.shape(x)} grids; a loop, an index or "
                                  "jax.vmap must take one for each input")


class WithInputGrid(base.Leaf):
  """A leaf that says in a field `input` how `lift` quantizes what it is applied to.

  Attributes:
    input: the grid, or None.
  """

  input: StaticGrid | Dynamic | None

  @property
  def takes_input_grid(self) -> bool:
    return True

  def input_grid(self) -> StaticGrid | Dynamic | None:
    return self.input

  def with_input_grid(self, grid: StaticGrid | Dynamic | None) -> Self:
    return self.replace(input=grid)
