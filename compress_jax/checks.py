"""Validation of arguments: what is refused is named, with what it must be."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax.leaves.base import UnsupportedError
from compress_jax.leaves.checking import block, concrete, is_whole, whole
from compress_jax.leaves.either import dense_of

__all__ = ["at", "block", "concrete", "finite", "integer", "is_whole", "number", "of_leaf", "one",
           "taken", "whole"]


def number(name: str, value: Any, low: float, high: float) -> None:
  """Refuses a number outside of a range; one that is traced passes.

  Args:
    name: of the argument.
    value: a number or an array of them.
    low: the smallest that it may be.
    high: the largest.

  Raises:
    ValueError: it is outside.
  """
  known = concrete(value)
  if known is None:
    return
  if known.dtype.kind in "US":
    raise ValueError(f"{name}={value!r}: must be a number from {low} to {high}")
  known = known.astype(np.float64)  # the limits may be beyond a narrower float
  if not np.all((known >= low) & (known <= high)):
    raise ValueError(f"{name}={value}: must be from {low} to {high}")


def one(name: str, value: Any, low: float, high: float) -> None:
  """Refuses what is no single number of a range; one that is traced passes.

  Args:
    name: of the argument.
    value: a number.
    low: the smallest that it may be.
    high: the largest.

  Raises:
    ValueError: it is an array of several, or outside.
  """
  number(name, value, low, high)
  if np.ndim(value):
    raise ValueError(f"{name}={value}: must be one number from {low} to {high}")


def integer(name: str, value: Any, low: float, high: float) -> None:
  """Refuses what is no whole number of a range; of one that is traced only the dtype tells.

  Args:
    name: of the argument.
    value: one number.
    low: the smallest that it may be.
    high: the largest.

  Raises:
    ValueError: it is of another dtype, an array of several, or outside.
  """
  one(name, value, low, high)
  if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
    raise ValueError(f"{name}={value}: must be one whole number from {low} to {high}")


def finite(path: str, x: Any, what: str = "weights") -> None:
  """Refuses weights that hold NaN or infinity; what is traced passes.

  Args:
    path: of the weight, for the error.
    x: an array or leaf.
    what: it holds, for the error.

  Raises:
    ValueError: one of them is not finite.
  """
  known = concrete(dense_of(x))
  if known is not None and not np.isfinite(known.astype(np.float32)).all():
    raise ValueError(f"{path}: holds NaN or infinity; {what} must be finite")


@contextlib.contextmanager
def at(path: str) -> Iterator[None]:
  """Names the path of a leaf that cannot do what it is asked for inside.

  Args:
    path: of the leaf.

  Raises:
    UnsupportedError: with the path in front.
  """
  try:
    yield
  except UnsupportedError as error:
    raise UnsupportedError(f"{path}: {error}") from None


@contextlib.contextmanager
def of_leaf(path: str) -> Iterator[None]:
  """Names the path of a leaf whose own error, which knows no path, is raised inside.

  Args:
    path: of the leaf; empty where it is the whole tree.

  Raises:
    ValueError: with the path in front; an UnsupportedError stays one.

  Example:
    >>> with of_leaf("dense/kernel"):
    ...   raise ValueError("FakeQuant.value: holds NaN; must be numbers to be frozen")
    Traceback (most recent call last):
    ...
    ValueError: dense/kernel: FakeQuant.value: holds NaN; must be numbers to be frozen
  """
  try:
    yield
  except ValueError as error:
    kind = UnsupportedError if isinstance(error, UnsupportedError) else ValueError
    raise kind(f"{path}: {error}" if path else str(error)) from error


@contextlib.contextmanager
def taken(paths: Iterable[str], by_default: bool) -> Iterator[None]:
  """Adds to an error about a leaf that nobody asked for which `where=` leaves it out.

  Args:
    paths: of the leaves that are changed inside.
    by_default: whether `where=None` took them.

  Raises:
    ValueError: what was raised inside, with the hint where it begins with a leaf's path.

  Example:
    >>> with taken(["norm/shift"], by_default=True):
    ...   raise ValueError("norm/shift: group=3: must divide axis -2")
    Traceback (most recent call last):
    ...
    ValueError: norm/shift: group=3: must divide axis -2; it was taken by default, and \
where=cj.named_as_weights(params, leave_out='^norm/shift$') leaves it out
  """
  try:
    yield
  except ValueError as error:
    about = [path for path in paths if str(error).startswith(f"{path}:")]
    if not by_default or not about:
      raise
    # No pattern as `where=`: it would take biases and statistics along.
    left_out = f"^{re.escape(about[0])}$"
    raise type(error)(f"{error}; it was taken by default, and where=cj.named_as_weights(params, "
                      f"leave_out={left_out!r}) leaves it out") from None
