"""Integer grids for weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax import checks, tree
from compress_jax.input_axis import InputAxis, input_axis
from compress_jax.leaves import (
  FakeQuant,
  Leaf,
  apply_mask,
  dense_of,
  grid,
  input_grid_of,
  is_leaf,
  mask_of,
)
from compress_jax.leaves.base import Array
from compress_jax.leaves.either import unrounded_of

Axis = int | tuple[int, ...] | None | Callable[[str], int | tuple[int, ...] | None]


def affine(params: Any, bits: Array | int, *, axis: Axis = -1, symmetric: bool = True,
           group: int | None = None, group_axis: InputAxis = None,
           where: tree.Where = None) -> Any:
  """Puts weights on an integer grid that spans their range.

  A weight whose elements are all 0 (a projection that starts there, as LoRA's second) has steps of
  1, and would be 0 in every forward pass of a training until it exceeds a half: call `refit`
  between the steps, or quantize it after it has trained.

  Args:
    params: a parameter tree.
    bits: 2 to 16; may be traced.
    axis: the axis or axes along which every index has its own scale; the default
      is the last, the output channels of a Flax kernel (Equinox and PyTorch keep
      theirs in the first). None is one scale per tensor. Also a function of the path,
      as `quantize.channel_axes` finds it.
    symmetric: whether 0.0 is the grid's middle; if not, a zero point moves it.
    group: consecutive inputs that have a scale of their own; must divide their axis, which
      `axis` must not have. None is no groups.
    group_axis: along which `group` counts: a number, or a function of the path. None is -2,
      the inputs of Flax's dense layers and convolutions; a weight of three or more
      dimensions that does not look like these is refused.
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`). A low-rank leaf has its factors quantized.

  Returns:
    The tree with `FakeQuant` leaves; masks survive, pruned weights stay 0.

  Raises:
    ValueError: bits or axis out of range, a group that does not divide or whose axis is not
      known, nothing selected, weights not finite.

  Source: Jacob et al. 2018, "Quantization and training of neural networks for
  efficient integer-arithmetic-only inference"; ONNX QuantizeLinear.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = cj.quantize.affine({"w": jnp.array([[1.27], [0.5]])}, bits=8)["w"]
    >>> cj.freeze(leaf).integers.tolist()
    [[127], [50]]
  """
  make = _Grid(bits, axis, symmetric, group, group_axis)
  return tree.transform(params, where, make.fake_quant)


def learned(params: Any, bits: Array | int, *, axis: Axis = -1, group: int | None = None,
            group_axis: InputAxis = None, where: tree.Where = None) -> Any:
  """Puts weights on symmetric grids whose steps train with them (LSQ).

  A grid goes from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1: without the paper's lowest value, so
  that at 2 bits it has three. A step starts at 2 mean|w| / sqrt(largest integer) of the weights
  that are not pruned; its gradient is scaled by 1 / sqrt(weights it serves * largest integer).
  What is clipped is decided before rounding, as in the paper; PyTorch's learnable fake
  quantization decides after it.

  Args:
    params: a parameter tree.
    bits: as in `affine`.
    axis: as in `affine`; None is the paper's.
    group: as in `affine`.
    group_axis: as in `affine`.
    where: as in `affine`.

  Returns:
    The tree with `FakeQuant` leaves that also train their `scale`.

  Raises:
    ValueError: as in `affine`, or weights that are all 0 and not pruned: they have no mean to
      start from, and a step that is not theirs would hold them at 0.

  Source: Esser et al. 2020, "Learned step size quantization", sections 2.1 and 2.2.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.learned({"w": jnp.eye(4)}, bits=4)
    >>> cj.partition(params)[0]["w"].scale.shape
    (1, 4)
  """
  make = _Grid(bits, axis, True, group, group_axis)

  def change(path: str, x: Array | Leaf) -> FakeQuant:
    leaf = make.fake_quant(path, x)
    _check_not_zero(path, leaf)
    return _with_learned_step(leaf)

  return tree.transform(params, where, change)


def _check_not_zero(path: str, leaf: FakeQuant) -> None:
  """Refuses weights that are all 0 though no mask holds them there; what is traced passes."""
  values, mask = checks.concrete(dense_of(leaf.value)), mask_of(leaf.value)
  if values is None or values.any():
    return
  kept = values.size if mask is None else checks.concrete(mask)
  if kept is not None and np.any(kept):
    raise ValueError(f"{path}: all its weights are 0, from which no step can be learned; must be "
                     "trained before, or left out by where=")


def _with_learned_step(leaf: FakeQuant) -> FakeQuant:
  """Returns the leaf with LSQ's first step size, which trains from there."""
  # In float32: a sum of many weights leaves float16's range.
  magnitude, mask = jnp.abs(dense_of(leaf.value)).astype(jnp.float32), mask_of(leaf.value)
  kept = jnp.ones(leaf.shape) if mask is None else mask.astype(jnp.float32)
  total = grid.reduce_to(jnp.sum, magnitude, leaf.scale.shape)
  count = grid.reduce_to(jnp.sum, kept, leaf.scale.shape)
  # The mean of the weights that are there: pruned ones would shrink the step.
  mean = total / jnp.maximum(count, 1)
  scale = 2 * mean / jnp.sqrt(grid.limits(leaf.bits, True)[1])
  return leaf.replace(scale=jnp.where(scale > 0, scale, 1.0), learned=True,
                      served=leaf.size // max(1, leaf.scale.size))


def checked_bits(bits: Array | int) -> tuple[Array, bool]:
  """Returns bits as leaves hold them.

  Args:
    bits: one whole number; may be traced.

  Returns:
    (int32 scalar, whether it may be more than 8, as far as is known).

  Raises:
    ValueError: what is known of it is not one whole number from 2 to 16.
  """
  checks.integer("bits", bits, 2, 16)
  known = checks.concrete(bits)
  return jnp.asarray(bits, jnp.int32), known is None or bool(known > 8)


def unrounded(x: Array | Leaf) -> Array | Leaf:
  """Returns the value that a new rounding starts from: what is under any that was before.

  Args:
    x: an array or leaf.

  Returns:
    An array, or a leaf around one; its mask, if it has one, is kept.

  Raises:
    UnsupportedError: a leaf that does not say.
  """
  value, mask = unrounded_of(x), mask_of(x)
  if mask is None or mask_of(value) is not None:
    return value
  # Deployed leaves hold their mask in what they store: it must be seen again to train.
  return apply_mask(value, mask, x.block_shape() if is_leaf(x) else None)


def refit(params: Any) -> Any:
  """Makes grids span their weights' present range again, and changes nothing else.

  For training steps: weights move, and a grid that was fitted before stays behind.
  Structure, bits, axes and groups stay as they are; steps that are learned are
  left alone.

  Args:
    params: a parameter tree.

  Returns:
    The tree with new `scale` and `zero_point` in every `FakeQuant` leaf, and new scales in
    every `FakeFloat` that has some.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine({"w": jnp.array([[1.27]])}, bits=8)
    >>> moved = cj.prune.rewind(params, {"w": jnp.array([[2.54]])})
    >>> round(float(refit(moved)["w"].scale[0, 0]), 6)
    0.02
  """
  parts, rebuild = tree.select_parts(params, tree.everything)
  return rebuild([x.refitted() if is_leaf(x) else x for _, x in parts])


def scale_shape(path: str, shape: tuple[int, ...], axis: Axis,
                group: int | None = None, group_axis: InputAxis = None) -> tuple[int, ...]:
  """Returns the shape of a weight's scales.

  Args:
    path: of the weight, for the error.
    shape: of the weight.
    axis: as in `affine`.
    group: as in `affine`.
    group_axis: as in `affine`.

  Returns:
    For each axis its size, 1, or how many groups it has.

  Raises:
    ValueError: an axis that the leaf at `path` does not have, or a group that does not divide
      its own, shares it with `axis`, or is not told which it is.
  """
  ndim = len(shape)
  if callable(axis):
    axis = axis(path)
  if axis is None:
    kept = ()
  else:
    kept = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
  for a in kept:
    if not hasattr(a, "__index__") or not -ndim <= a < ndim:
      raise ValueError(f"{path}: axis={axis}: must be from {-ndim} to {ndim - 1}")
  own = {a % ndim for a in kept}
  out = [size if i in own else 1 for i, size in enumerate(shape)]
  if group is not None:
    at = input_axis(path, shape, group_axis, name="group_axis", outputs=own)
    if at < 0 or group < 1 or shape[at] % group:
      raise ValueError(f"{path}: group={group}: must divide axis {at - ndim} of a {shape} weight")
    if at in own:
      raise ValueError(f"{path}: group={group}: must be None where axis={axis} gives every index "
                       f"of axis {at - ndim}, along which groups lie, a scale of its own")
    out[at] = shape[at] // group
  return tuple(max(1, count) for count in out)  # an axis without indices shares one


class _Grid:
  """The grids that one call puts weights on."""

  def __init__(self, bits: Array | int, axis: Axis, symmetric: bool, group: int | None,
               group_axis: InputAxis):
    self.bits, self.may_exceed_8_bits = checked_bits(bits)
    self.axis, self.symmetric = axis, symmetric
    self.group, self.group_axis = group, group_axis

  def _check_range(self, path: str, low: Array, high: Array) -> None:
    """Refuses weights that are so large that no float32 step reaches them."""
    bits = checks.concrete(self.bits)
    ends = checks.concrete(jnp.maximum(-low, high))
    if bits is None or ends is None or not ends.size:
      return
    # Half a step beyond the last code is still rounded to it; dense weights stay finite.
    codes = 2.0 ** (int(bits) - 1) - 0.5
    largest = min(codes * float(grid.LARGEST_STEP), 3e38)
    if ends.max() > largest:
      raise ValueError(f"{path}: holds weights of up to {ends.max():.3g}; at {int(bits)} bits they "
                       f"must be within {largest:.3g}")

  def fake_quant(self, path: str, x: Array | Leaf) -> FakeQuant:
    """Returns a weight on a grid that spans its range.

    Args:
      path: of the weight, for errors.
      x: the weight.

    Returns:
      The leaf; a grid that it had before is gone, its mask and its input's grid stay.
    """
    checks.finite(path, x)
    value = unrounded(x)
    shape = scale_shape(path, value.shape, self.axis, self.group, self.group_axis)
    low, high, scale, zero_point = grid.spanning(dense_of(value), shape, self.bits,
                                                 self.symmetric)
    self._check_range(path, low, high)
    # A copy for each leaf: a program can be donated a buffer only once.
    return FakeQuant(value, scale, zero_point, jnp.array(self.bits), input_grid_of(x),
                     may_exceed_8_bits=self.may_exceed_8_bits)
