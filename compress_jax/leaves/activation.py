"""How the input of a layer is quantized: on a grid fixed beforehand, or on its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from compress_jax.leaves import base, grid
from compress_jax.leaves.base import Array


@base.node
class Activation(base.Node):
  """A grid fixed beforehand (static quantization).

  Attributes:
    scale: float32 scalar.
    zero_point: int32 scalar, or None for a symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced.
    wide: whether bits may be more than 8.
    learned: whether `scale` trains (LSQ).

  Example:
    >>> import jax.numpy as jnp
    >>> Activation(jnp.float32(0.5), None, jnp.int32(8)).fake(jnp.array([0.7])).tolist()
    [0.5]
  """

  scale: Array
  zero_point: Array | None
  bits: Array
  wide: bool = base.static(default=False)
  learned: bool = base.static(default=False)

  def of(self, x: Array) -> Activation:
    """Returns the grid for this input: itself."""
    return self

  def steps(self, x: Array) -> Array:
    """Returns `q - zero_point` of x as integer-valued float32; see `grid.steps`."""
    return grid.steps(x, self.scale, self.zero_point, self.bits)

  def fake(self, x: Array) -> Array:
    """Returns x rounded to the grid, float32, straight-through gradient."""
    scale = self.scale
    if self.learned:
      # Esser et al. 2020, section 2.2: N is the features that one example has.
      features = x.size / max(1, x.shape[0] if x.ndim else 1)
      largest = grid.limits(self.bits, self.zero_point is None)[1]
      scale = grid.scale_gradient(scale, jax.lax.rsqrt(features * largest))
    return grid.steps(x, scale, self.zero_point, self.bits) * scale


@base.node
class Dynamic(base.Node):
  """A grid that spans each input's own range (dynamic quantization).

  The range is the whole input's, so that an image's result depends on the others
  in its batch; `jax.vmap` over images gives each its own.

  Attributes:
    bits: int32 scalar, 2 to 16; may be traced.
    symmetric: whether 0.0 is the grid's middle.
    wide: whether bits may be more than 8.

  Example:
    >>> import jax.numpy as jnp
    >>> grid = Dynamic(jnp.int32(8)).of(jnp.array([0.0, 2.55]))
    >>> round(float(grid.scale), 6)
    0.01
  """

  bits: Array
  symmetric: bool = base.static(default=False)
  wide: bool = base.static(default=False)

  def of(self, x: Array) -> Activation:
    """Returns the grid that spans this input; no gradient flows into its range."""
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    scale, zero_point = grid.affine(x.min(), x.max(), self.bits, self.symmetric)
    return Activation(scale, zero_point, self.bits, wide=self.wide)
