"""What a leaf is asked, asked of anything that takes a weight's place: an array or a leaf."""

from __future__ import annotations

from typing import Any

from compress_jax.leaves.base import Array, Leaf, UnsupportedError, bits_of, is_leaf


def dense_of(x: Array | Leaf) -> Array:
  """Returns the array that an array or leaf stands for.

  Args:
    x: an array or leaf.

  Returns:
    The array; an array stands for itself.
  """
  return x.dense() if is_leaf(x) else x


def freeze_of(x: Any) -> Any:
  """Returns the deployed form of an array or leaf.

  Args:
    x: an array or leaf.

  Returns:
    A frozen leaf; an array is its own deployed form.
  """
  return x.freeze() if is_leaf(x) else x


def mask_of(x: Array | Leaf) -> Array | None:
  """Returns which weights of an array or leaf have not been pruned.

  Args:
    x: an array or leaf.

  Returns:
    A bool array of its shape, true where a weight is kept; None where it has no mask.

  Example:
    >>> import jax.numpy as jnp
    >>> mask_of(jnp.ones(2)) is None
    True
  """
  return x.weight_mask() if is_leaf(x) else None


def is_pruned(x: Array | Leaf) -> bool:
  """Returns whether a mask has pruned weights of an array or leaf, as far as it can say.

  Args:
    x: an array or leaf.

  Returns:
    True or False.
  """
  try:
    return mask_of(x) is not None
  except UnsupportedError:
    return False


def weight_bits_of(x: Array | Leaf) -> int:
  """Returns the bits of a weight as products take it.

  Args:
    x: an array or leaf.

  Returns:
    Bits; of an array, those of its dtype.
  """
  return x.weight_bits() if is_leaf(x) else bits_of(x.dtype)


def input_grid_of(x: Any) -> Any:
  """Returns the grid of what a weight is applied to.

  Args:
    x: an array or leaf.

  Returns:
    A `StaticGrid` or `Dynamic`; None where the input stays in floating point.
  """
  return x.input_grid() if is_leaf(x) else None


def unrounded_of(x: Array | Leaf) -> Array | Leaf:
  """Returns what is under any rounding of an array or leaf.

  Args:
    x: an array or leaf.

  Returns:
    The value that a new rounding starts from.

  Raises:
    UnsupportedError: a leaf that does not say.
  """
  return x.unrounded() if is_leaf(x) else x


def with_value(x: Array | Leaf, value: Array) -> Array | Leaf:
  """Returns an array or leaf around other values.

  Args:
    x: an array or leaf.
    value: array of its shape.

  Returns:
    The leaf, its masks and grids in place; of an array the values are all there is.

  Raises:
    UnsupportedError: a leaf that does not hold values as they were trained.
  """
  return x.with_value(value) if is_leaf(x) else value


def scaled(x: Array | Leaf, factor: Array) -> Array | Leaf:
  """Returns an array or leaf times a factor for each output.

  Args:
    x: an array or leaf.
    factor: array, one number for each index of the last axis.

  Returns:
    The product, of the same kind and dtype as `x`.

  Raises:
    UnsupportedError: a leaf that is on a grid already.
  """
  # Rounded once, after the product.
  return x.scaled(factor) if is_leaf(x) else (x * factor).astype(x.dtype)


def parts_of(x: Array | Leaf) -> dict[str, Array | Leaf]:
  """Returns what transforms treat as weights of their own.

  Args:
    x: an array or leaf.

  Returns:
    {name: part} of a leaf's factors; of what has none, itself under the name "".
  """
  if is_leaf(x) and x.parts:
    return {name: getattr(x, name) for name in x.parts}
  return {"": x}
