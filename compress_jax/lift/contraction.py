"""A bilinear primitive seen from its weight: what dot and convolution have in common."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from compress_jax.leaves.base import Array
from compress_jax.lift import patches
from compress_jax.lift.registry import NoRule, Ref
from compress_jax.lift.surrogate import with_gradient_of


@dataclasses.dataclass(frozen=True)
class Contraction:
  """One application of a weight.

  Attributes:
    primitive: dot_general or conv_general_dilated.
    params: its parameters.
    on_left: whether the weight is the first operand.
    ndim: dimensions of the weight.
    dtype: dtype of the result.
    outer: how the program itself binds it (a custom derivative, say), as a
      function of both operands; None binds the primitive.
  """

  primitive: Any
  params: dict[str, Any]
  on_left: bool
  ndim: int
  dtype: Any
  outer: Callable[..., Array] | None = None

  def bind(self, x: Array, w: Array, **params: Any) -> Array:
    """Returns the primitive's result.

    Args:
      x: the other operand.
      w: the weight as an array.
      **params: parameters of the primitive that are not as the program has them.

    Returns:
      The result.
    """
    operands = (w, x) if self.on_left else (x, w)
    return self.primitive.bind(*operands, **(self.params | params))

  def __call__(self, x: Array, w: Array) -> Array:
    """Returns the result as the program computes it, its own gradient included.

    Args:
      x: the other operand.
      w: the weight as an array.

    Returns:
      The result.
    """
    if self.outer is None:
      return self.bind(x, w)
    return self.outer(w, x) if self.on_left else self.outer(x, w)

  def bare(self) -> Self:
    """Returns the contraction without a custom derivative, for what makes up its value."""
    return dataclasses.replace(self, outer=None)

  def with_own_gradient(self, value: Array, x: Array, w: Ref) -> Array:
    """Returns a result that a rule computed, differentiated as the program's author said.

    Args:
      value: the result.
      x: the other operand.
      w: the weight.

    Returns:
      `value`; where there is a custom derivative its gradient is that of the dense weight, as on
      parts or steps of the weight the author's function would see other numbers.
    """
    if self.outer is None:
      return value
    return with_gradient_of(lax.stop_gradient(value), self(x, w.dense()))

  def exact(self, x: Array, w: Array, dtype: Any) -> Array:
    """Returns the result accumulated at full precision.

    Args:
      x: the other operand.
      w: the weight as an array.
      dtype: of the sums.

    Returns:
      The result, of that dtype.
    """
    return self.bind(x, w, preferred_element_type=jnp.dtype(dtype),
                     precision=(lax.Precision.HIGHEST,) * 2)

  def contracted(self) -> tuple[int, ...]:
    """Returns the weight's axes that are summed over."""
    raise NotImplementedError

  def free(self) -> tuple[int, ...]:
    """Returns the weight's axes that come out: those of the outputs, and of batches."""
    return tuple(a for a in range(self.ndim) if a not in self.contracted())

  def varying_scale(self, path: str) -> NoRule:
    """Returns the error for a scale that varies along a summed axis.

    Args:
      path: of the weight.

    Returns:
      The error, which says along which axes a scale may vary.
    """
    axes = self.free()
    axis = axes[0] if len(axes) == 1 else axes
    return NoRule(self.primitive.name, path, "its scale varies along the summed axis; quantize it "
                  f"with axis={axis} (cj.quantize.channel_axes finds the axes of a whole model)")

  def per_output(self, s: Array, path: str, ndim: int) -> Array:
    """Lays an array over the weight's axes out as the result's axes.

    Args:
      s: array that broadcasts to the weight, of size 1 along every summed axis.
      path: the weight's path, for the error.
      ndim: dimensions of the result.

    Returns:
      An array that broadcasts to the result.

    Raises:
      NoRule: s varies along a summed axis: no single rescaling can follow.
    """
    if s.ndim == 0:
      return s
    summed, places = self.contracted(), self.output_axes(ndim)
    if any(s.shape[a] != 1 for a in summed):
      raise self.varying_scale(path)
    shape = [1] * ndim
    for axis, out in places.items():
      shape[out] = s.shape[axis]
    order = sorted(places, key=lambda axis: places[axis])
    return jnp.transpose(s, (*order, *summed)).reshape(shape)

  def output_axes(self, ndim: int) -> dict[int, int]:
    """Returns where the weight's axes that are not summed come out.

    Args:
      ndim: dimensions of the result.

    Returns:
      {weight axis: result axis}.
    """
    raise NotImplementedError

  def x_axis(self, axis: int) -> int | None:
    """Returns the other operand's axis that a summed axis of the weight, or one of batches, meets.

    Args:
      axis: of the weight.

    Returns:
      The axis, or None: a window slides along it, or groups share it.
    """
    raise NotImplementedError

  def ones(self, x: Array, w: Array) -> Array:
    """Returns ones in the other operand's place, whose result is the weight's sums.

    Args:
      x: the other operand, which is not padded any more.
      w: the weight.

    Returns:
      Of x's dtype, as small as it may be; the result broadcasts to that of x.
    """
    raise NotImplementedError

  def ones_of_weight(self, w: Array) -> Array | None:
    """Returns ones in the weight's place, whose result is the other operand's sums.

    Args:
      w: the weight.

    Returns:
      Of w's dtype, as small as it may be; the result broadcasts to that of w. None where
      outputs differ in what they sum.
    """
    outputs = set(self.free()) - set(self.batch_axes())
    shape = [1 if a in outputs else n for a, n in enumerate(w.shape)]
    return jnp.ones(shape, w.dtype)

  def batch_axes(self) -> tuple[int, ...]:
    """Returns the weight's axes that are batches of products."""
    return ()

  def terms(self, shape: tuple[int, ...]) -> int:
    """Returns how many products each element of the result sums.

    Args:
      shape: of the weight.

    Returns:
      The number.
    """
    return math.prod(shape[a] for a in self.contracted())

  def terms_of_data(self, shape: tuple[int, ...]) -> float:
    """Returns how many of `terms` are with an element of x, on average over the result.

    Args:
      shape: of the weight.
    """
    return self.terms(shape)

  def pad(self, x: Array, value: Array) -> tuple[Array, Contraction]:
    """Pads the other operand explicitly: integers pad with the code of 0.0, not with 0.

    Args:
      x: the other operand.
      value: scalar to pad with.

    Returns:
      (x padded, the contraction without padding).
    """
    return x, self


class Dot(Contraction):
  """`dot_general` seen from its weight."""

  def _sides(self) -> tuple[Any, Any, Any, Any]:
    (left, right), (batch_left, batch_right) = self.params["dimension_numbers"]
    if self.on_left:
      return left, batch_left, right, batch_right
    return right, batch_right, left, batch_left

  def contracted(self) -> tuple[int, ...]:
    return tuple(self._sides()[0])

  def output_axes(self, ndim: int) -> dict[int, int]:
    summed, batch, _, _ = self._sides()
    free = [a for a in range(self.ndim) if a not in summed and a not in batch]
    # `dot_general` puts out batch axes, then the left operand's, then the right one's.
    start = len(batch) if self.on_left else ndim - len(free)
    places = {axis: place for place, axis in enumerate(batch)}
    for place, axis in enumerate(free, start):
      places[axis] = place
    return places

  def over(self, x_axes: tuple[int, ...], w_axes: tuple[int, ...]) -> Dot:
    """Returns the product of x with a matrix on its right, over other axes.

    Args:
      x_axes: of x, that are summed.
      w_axes: of the matrix, that are summed.

    Returns:
      The product.
    """
    numbers = ((x_axes, w_axes), ((), ()))
    return Dot(self.primitive, self.params | {"dimension_numbers": numbers}, False, 2, self.dtype)

  def x_axes(self) -> tuple[int, ...]:
    """Returns the axes of the other operand that are summed over."""
    return tuple(self._sides()[2])

  def x_axis(self, axis: int) -> int | None:
    summed, batch, x_summed, x_batch = self._sides()
    return (*x_summed, *x_batch)[(*summed, *batch).index(axis)]

  def exact(self, x: Array, w: Array, dtype: Any) -> Array:
    if not self._is_single_row_of_integers(x, w):
      return super().exact(x, w, dtype)
    (axis,) = self.contracted()
    total = _row_by_matrix(axis, jnp.dtype(dtype))(x.reshape(-1), w)
    # The axes of x that come out have a single element each.
    free = (1,) * (x.ndim - 1)
    return total.reshape((total.size, *free) if self.on_left else (*free, total.size))

  def _is_single_row_of_integers(self, x: Array, w: Array) -> bool:
    integers = x.dtype == w.dtype == jnp.int8
    if not integers or not self.is_matrix() or jax.default_backend() != "cpu":
      return False
    # Exported for batches of any size, the number of rows is a symbol.
    (axis,) = self.x_axes()
    free = [n for a, n in enumerate(x.shape) if a != axis]
    return all(isinstance(n, int) and n == 1 for n in free)

  def batch_axes(self) -> tuple[int, ...]:
    return tuple(self._sides()[1])

  def ones(self, x: Array, w: Array) -> Array:
    _, _, x_summed, x_batch = self._sides()
    shape = [n if a in (*x_summed, *x_batch) else 1 for a, n in enumerate(x.shape)]
    return jnp.ones(shape, x.dtype)

  def is_matrix(self) -> bool:
    """Returns whether the weight is a matrix, summed over one axis."""
    summed, batch, _, _ = self._sides()
    return self.ndim == 2 and len(summed) == 1 and not batch


@functools.cache
def _row_by_matrix(axis: int, dtype: Any) -> Callable[[Array, Array], Array]:
  """Returns the product of a row of integers with a matrix that is summed along an axis.

  XLA's fast integer product on a CPU takes two rows or more; for a single one the matrix would be
  written out in 32 bits, in every call. Where `vmap` has many rows they are one product.
  """
  def rows_by_matrix(rows: Array, w: Array) -> Array:
    return lax.dot_general(rows, w, (((1,), (axis,)), ((), ())), preferred_element_type=dtype)

  def two_rows(row: Array, w: Array) -> Array:
    return rows_by_matrix(jnp.stack([row, jnp.zeros_like(row)]), w)[0]

  product = custom_vmap(two_rows)

  @product.def_vmap
  def batched(size: int, is_batched: Sequence[bool], row: Array, w: Array) -> tuple[Array, bool]:
    rows, ws = is_batched
    if not ws:
      return rows_by_matrix(row, w), True
    return jax.vmap(two_rows, (0 if rows else None, 0))(row, w), True

  return product


class Conv(Contraction):
  """`conv_general_dilated` seen from its kernel, the second operand."""

  def _spec(self) -> Any:
    return self.params["dimension_numbers"]

  def contracted(self) -> tuple[int, ...]:
    return tuple(self._spec().rhs_spec[1:])

  def output_axes(self, ndim: int) -> dict[int, int]:
    return {self._spec().rhs_spec[0]: self._spec().out_spec[1]}

  def grouped(self) -> bool:
    """Returns whether channels, or images, are in groups."""
    return self.params["feature_group_count"] != 1 or self.params["batch_group_count"] != 1

  def exact(self, x: Array, w: Array, dtype: Any) -> Array:
    def padded(x: Array) -> tuple[Array, Conv]:
      return self.pad(x, jnp.zeros((), x.dtype))

    def product(x: Array, w: Array) -> Array:
      x, conv = padded(x)
      return patches.convolution(x, w, conv.params, dtype)

    if not patches.takes(jax.eval_shape(lambda x: padded(x)[0], x), w, self.params):
      return super().exact(x, w, dtype)
    # On a GPU XLA has no convolution of integers with 32-bit sums, and may compute one of floats
    # by transforms (Winograd's, Fourier's), which do not keep whole numbers whole.
    plain = functools.partial(super().exact, dtype=dtype)
    return lax.platform_dependent(x, w, cuda=product, rocm=product, default=plain)

  def terms_of_data(self, shape: tuple[int, ...]) -> float:
    # The others are with zeros between the pixels of a transposed convolution.
    return self.terms(shape) / math.prod(self.params["lhs_dilation"])

  def x_axis(self, axis: int) -> int | None:
    channels = axis == self._spec().rhs_spec[1] and not self.grouped()
    return self._spec().lhs_spec[1] if channels else None

  def ones_of_weight(self, w: Array) -> Array | None:
    return None if self.grouped() else super().ones_of_weight(w)

  def ones(self, x: Array, w: Array) -> Array:
    # One place of the window.
    images, channels, *spatial = self._spec().lhs_spec
    shape = [1] * x.ndim
    shape[images], shape[channels] = self.params["batch_group_count"], x.shape[channels]
    windows = [w.shape[a] for a in self._spec().rhs_spec[2:]]
    for axis, size, dilation in zip(spatial, windows, self.params["rhs_dilation"], strict=True):
      shape[axis] = (size - 1) * dilation + 1
    return jnp.ones(shape, x.dtype)

  def pad(self, x: Array, value: Array) -> tuple[Array, Conv]:
    # What the window skips between pixels (lhs_dilation) is padding too.
    config = [(0, 0, 0)] * x.ndim
    spatial = self._spec().lhs_spec[2:]
    for axis, (low, high), dilation in zip(spatial, self.params["padding"],
                                           self.params["lhs_dilation"], strict=True):
      config[axis] = (low, high, dilation - 1)
    params = self.params | {"padding": ((0, 0),) * len(spatial),
                            "lhs_dilation": (1,) * len(spatial)}
    return lax.pad(x, value.astype(x.dtype), config), dataclasses.replace(self, params=params)
