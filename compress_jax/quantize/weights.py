"""Integer grids for weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import (
  BlockSparse,
  FakeFloat,
  FakeQuant,
  Float,
  Leaf,
  Quantized,
  dense_of,
  grid,
)
from compress_jax.leaves.base import Array
from compress_jax.prune.ranking import mask_of

Axis = int | tuple[int, ...] | None


def affine(params: Any, bits: Array | int, *, axis: Axis = -1, symmetric: bool = True,
           group: int | None = None, where: tree.Where = None) -> Any:
  """Puts weights on an integer grid that spans their range.

  Args:
    params: a parameter tree.
    bits: 2 to 16; may be traced.
    axis: the axis or axes along which every index has its own scale; the default
      is the last, the output channels of a Flax kernel. None is one scale per
      tensor.
    symmetric: whether 0.0 is the grid's middle; if not, a zero point moves it.
    group: consecutive inputs (along axis -2, the input channels of a Flax kernel)
      that have a scale of their own; must divide that axis. None is no groups.
    where: regular expression or predicate on the path; by default every leaf
      with two or more dimensions. A low-rank leaf has its factors quantized.

  Returns:
    The tree with `FakeQuant` leaves; masks survive, pruned weights stay 0.

  Raises:
    ValueError: bits or axis out of range, a group that does not divide, nothing
      selected, weights not finite.

  Source: Jacob et al. 2018, "Quantization and training of neural networks for
  efficient integer-arithmetic-only inference"; ONNX QuantizeLinear.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = cj.quantize.affine({"w": jnp.array([[1.27], [0.5]])}, bits=8)["w"]
    >>> cj.freeze(leaf).integers.tolist()
    [[127], [50]]
  """
  bits, wide = checked_bits(bits)
  chosen, rebuild = tree.select_parts(params, where)
  return rebuild([_quantized(path, x, bits, axis, symmetric, group, wide) for path, x in chosen])


def learned(params: Any, bits: Array | int, *, axis: Axis = -1, group: int | None = None,
            where: tree.Where = None) -> Any:
  """Puts weights on symmetric grids whose steps train with them (LSQ).

  A step starts at 2 mean|w| / sqrt(largest integer) of the weights that are not
  pruned; its gradient is scaled by
  1 / sqrt(weights it serves * largest integer).

  Args:
    params: a parameter tree.
    bits: as in `affine`.
    axis: as in `affine`; None is the paper's.
    group: as in `affine`.
    where: as in `affine`.

  Returns:
    The tree with `FakeQuant` leaves that also train their `scale`.

  Raises:
    ValueError: as in `affine`.

  Source: Esser et al. 2020, "Learned step size quantization", sections 2.1 and 2.2.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.learned({"w": jnp.eye(4)}, bits=4)
    >>> cj.partition(params)[0]["w"].scale.shape
    (1, 4)
  """
  def one(path: str, x: Any) -> FakeQuant:
    leaf = _quantized(path, x, bits, axis, True, group, wide)
    mask, magnitude = mask_of(leaf.value), jnp.abs(dense_of(leaf.value))
    kept = jnp.ones(leaf.shape) if mask is None else mask.astype(jnp.float32)
    total, count = (reduce_to(jnp.sum, a, leaf.scale.shape) for a in (magnitude, kept))
    # Of the weights that are there: pruned ones would shrink the step.
    mean = total / jnp.maximum(count, 1)
    scale = 2 * mean / jnp.sqrt(grid.limits(leaf.bits, True)[1])
    return dataclasses.replace(leaf, scale=jnp.where(scale > 0, scale, 1.0), learned=True)

  bits, wide = checked_bits(bits)
  chosen, rebuild = tree.select_parts(params, where)
  return rebuild([one(path, x) for path, x in chosen])


def checked_bits(bits: Array | int) -> tuple[Array, bool]:
  """Returns bits as an int32 scalar, and whether it may be more than 8.

  Raises:
    ValueError: what is known of it is not one whole number from 2 to 16.
  """
  if jnp.ndim(bits) or not jnp.issubdtype(jnp.result_type(bits), jnp.integer):
    raise ValueError(f"bits={bits}: may be one whole number from 2 to 16")
  tree.check_number("bits", bits, 2, 16)
  known = tree.concrete(bits)
  return jnp.asarray(bits, jnp.int32), known is None or bool(known > 8)


def unrounded(x: Array | Leaf) -> Array | Leaf:
  """Returns what is under any rounding of `x`: the value that a new one starts from."""
  while isinstance(x, FakeQuant | FakeFloat):
    x = x.value
  integers = isinstance(x, BlockSparse) and x.scale is not None
  return dense_of(x) if integers or isinstance(x, Quantized | Float) else x


def refit(params: Any) -> Any:
  """Makes grids span their weights' present range again, and changes nothing else.

  For training steps: weights move, and a grid that was fitted before stays behind.
  Structure, bits, axes and groups stay as they are; steps that are learned are
  left alone.

  Args:
    params: a parameter tree.

  Returns:
    The tree with new `scale` and `zero_point` in every `FakeQuant` leaf.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine({"w": jnp.array([[1.27]])}, bits=8)
    >>> moved = cj.prune.rewind(params, {"w": jnp.array([[2.54]])})
    >>> round(float(refit(moved)["w"].scale[0, 0]), 6)
    0.02
  """
  def one(x: Any) -> Any:
    if not isinstance(x, FakeQuant) or x.learned:
      return x
    low, high = _range(dense_of(x.value), x.scale.shape)
    scale, zero_point = grid.affine(low, high, x.bits, x.zero_point is None)
    return dataclasses.replace(x, scale=scale, zero_point=zero_point)

  parts, rebuild = tree.select_parts(params, lambda path: True)
  return rebuild([one(x) for _, x in parts])


def scale_shape(path: str, shape: tuple[int, ...], axis: Axis,
                group: int | None = None) -> tuple[int, ...]:
  """Returns the shape of a weight's scales; arguments as in `affine`.

  Raises:
    ValueError: an axis that the leaf at `path` does not have, or a group that
      does not divide it.
  """
  ndim = len(shape)
  kept = () if axis is None else tuple(axis) if isinstance(axis, tuple | list) else (axis,)
  for a in kept:
    if not hasattr(a, "__index__") or not -ndim <= a < ndim:
      raise ValueError(f"{path}: axis={axis}: may be from {-ndim} to {ndim - 1}")
  out = [n if i in {a % ndim for a in kept} else 1 for i, n in enumerate(shape)]
  if group is not None:
    if ndim < 2 or group < 1 or shape[-2] % group:
      raise ValueError(f"{path}: group={group}: must divide axis -2 of a {shape} weight")
    out[-2] = shape[-2] // group
  return tuple(out)


def reduce_to(reduction: Callable[..., Array], w: Array, shape: tuple[int, ...]) -> Array:
  """Reduces every axis to the size it has in `shape`: to 1, or group by group."""
  split = [part for n, count in zip(w.shape, shape, strict=True) for part in (count, n // count)]
  return reduction(w.reshape(split), axis=tuple(range(1, 2 * w.ndim, 2)))


def _range(w: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
  w = w.astype(jnp.float32)
  return reduce_to(jnp.min, w, shape), reduce_to(jnp.max, w, shape)


def _quantized(path: str, x: Array | Leaf, bits: Array, axis: Axis, symmetric: bool,
               group: int | None, wide: bool) -> FakeQuant:
  tree.check_finite(path, x)
  value = unrounded(x)
  low, high = _range(dense_of(value), scale_shape(path, value.shape, axis, group))
  scale, zero_point = grid.affine(low, high, bits, symmetric)
  return FakeQuant(value, scale, zero_point, bits, getattr(x, "input", None), wide=wide)
