"""Which axes of each weight are its outputs, asked of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import Leaf, dense_of
from compress_jax.leaves.base import Array
from compress_jax.lift.contraction import Contraction
from compress_jax.lift.interpreter import Interpreter
from compress_jax.lift.registry import Ref
from compress_jax.lift.tracing import traced

Axis = int | tuple[int, ...] | None


def channel_axes(fn: Callable[..., Any], params: Any, *args: Any) -> Callable[[str], Axis]:
  """Finds along which axis a scale may vary, from how products use each weight.

  Flax keeps kernels as (inputs, outputs), Equinox and PyTorch as (outputs, inputs); a scale
  for each output can be applied to a sum of integers, a scale for each input cannot.
  Nothing is computed.

  Args:
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree.
    *args: arrays, or a `jax.ShapeDtypeStruct` for each.

  Returns:
    path -> axis, as `axis=` of `quantize.affine`, `learned` and `cast` takes it. A weight
    with several uses has the axes that all of them allow, or None (one scale for all) where
    there is no such axis. Stacked layers, of which a loop takes one after the other, have each
    their own scales. What no product uses has the last axis, their default.

  Raises:
    NoRule: see `lift`.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = {"w": jnp.ones((3, 5))}
    >>> apply = lambda params, x: x @ params["w"].T
    >>> axes = cj.quantize.channel_axes(apply, params, jnp.ones((2, 5)))
    >>> cj.quantize.affine(params, 8, axis=axes)["w"].scale.shape
    (3, 1)
  """
  parts, rebuild = tree.select_parts(params, tree.everything)
  dimensions = {path: x.ndim for path, x in parts}
  found: dict[str, set[int]] = {}

  class Finder(Interpreter):
    """Notes the outputs' axes of every weight, as the weight is kept."""

    def product(self, op: Contraction, x: Any, w: Ref) -> Array:
      if not isinstance(w.leaf, _Followed):
        return super().product(op, x, w)  # factors, which come back one by one
      free = {w.leaf.kept_axis(axis) for axis in op.free()}
      # An axis that a loop or an index took away: layers of a stack have scales of their own.
      present = {w.leaf.kept_axis(axis) for axis in range(op.ndim)}
      free |= set(range(dimensions[w.path])) - present
      found[w.path] = found.get(w.path, free) & free
      return op(x, w.dense())

  followed = rebuild([_Followed(dense_of(x), tuple(range(x.ndim))) for _, x in parts])
  traced(Finder(densify=True), fn, followed, args, frozenset())

  def axis_of(path: str) -> Axis:
    if path not in found:
      return -1
    axes = tuple(sorted(found[path]))
    if len(axes) == 1:
      return axes[0]
    return axes or None

  return axis_of


# Not by `node`: no file may name it.
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Followed(Leaf):
  """A weight whose axes are followed through the program.

  Attributes:
    value: the array as the program has it at this point.
    axes: the axis of the kept weight that each of its last axes is.
  """

  value: Array
  axes: tuple[int, ...] = dataclasses.field(metadata={"static": True})

  laid_out = ("value",)

  @property
  def shape(self):
    return self.value.shape

  @property
  def dtype(self):
    return jnp.dtype(self.value.dtype)

  def dense(self) -> Array:
    return self.value

  def kept_axis(self, axis: int) -> int:
    """Returns the axis of the kept weight that one of the value's axes is."""
    # A loop takes the axis in front away.
    return self.axes[axis + len(self.axes) - self.value.ndim]

  def transposed(self, order: tuple[int, ...]) -> Leaf:
    kept = tuple(self.kept_axis(axis) for axis in order)
    return dataclasses.replace(super().transposed(order), axes=kept)

  def squeezed(self, dims: tuple[int, ...]) -> Leaf:
    kept = tuple(self.kept_axis(axis) for axis in range(self.value.ndim) if axis not in dims)
    return dataclasses.replace(super().squeezed(dims), axes=kept)
