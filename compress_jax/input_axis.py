"""Along which axis of a weight its inputs lie: what groups of consecutive inputs are cut from."""

from __future__ import annotations

from collections.abc import Callable, Collection

InputAxis = int | None | Callable[[str], int | None]


def input_axis(path: str, shape: tuple[int, ...], asked: InputAxis, *, name: str,
               outputs: Collection[int] = ()) -> int:
  """Returns the axis of a weight's inputs, or refuses to guess it.

  Args:
    path: of the weight.
    shape: of the weight.
    asked: the axis, a function of the path, or None: -2, the inputs of Flax's dense layers and
      convolutions, and of a stack of these.
    name: of the argument that it is, for errors.
    outputs: axes, from 0, that are known to be no inputs.

  Returns:
    The axis, from 0. It may be -1 or below where `shape` has fewer than two.

  Raises:
    ValueError: an axis that the weight does not have, or None where axis -2 is of something else.

  Example:
    >>> input_axis("conv", (3, 3, 16, 32), None, name="axis")
    2
    >>> input_axis("query", (64, 8, 16), None, name="axis")
    Traceback (most recent call last):
    ...
    ValueError: query: axis=None: must be said for a (64, 8, 16) weight, whose axis -2 does not \
look like its inputs: a number or a function of the path (0 for an attention's query, key and \
value, 1 for a convolution with outputs first)
  """
  axis, ndim = asked(path) if callable(asked) else asked, len(shape)
  if axis is None:
    if not _has_inputs_before_last(shape, outputs):
      raise ValueError(f"{path}: {name}=None: must be said for a {shape} weight, whose axis -2 "
                       "does not look like its inputs: a number or a function of the path (0 for "
                       "an attention's query, key and value, 1 for a convolution with outputs "
                       "first)")
    return ndim - 2
  if not hasattr(axis, "__index__") or not -ndim <= axis < ndim:
    raise ValueError(f"{path}: {name}={axis}: must be from {-ndim} to {ndim - 1}")
  return axis % ndim


def _has_inputs_before_last(shape: tuple[int, ...], outputs: Collection[int]) -> bool:
  """Returns whether a weight may be (window, inputs, outputs), as Flax has them."""
  if len(shape) <= 2:
    return True
  if outputs and len(shape) - 1 not in outputs:
    return False
  # A window is no longer than the channels under it; an attention's features in front of its heads
  # are, and so are outputs in front of a window.
  window = [size for axis, size in enumerate(shape[:-2]) if axis not in outputs]
  return max(window, default=0) <= shape[-2]
