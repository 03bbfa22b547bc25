"""Narrow float formats for weights."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from compress_jax import checks, tree
from compress_jax.leaves import FakeFloat, fake_float
from compress_jax.quantize.weights import Axis, scale_shape, unrounded

FORMATS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def cast(params: Any, to: str, *, axis: Axis = -1, where: tree.Where = None) -> Any:
  """Rounds weights to a narrower float format.

  Args:
    params: a parameter tree.
    to: "float16", "bfloat16", "float8_e4m3fn" or "float8_e5m2".
    axis: of the 8-bit formats only, which are scaled to use their whole range:
      the axis or axes along which every index has its own scale; None is one
      scale per tensor.
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`). A low-rank leaf has its factors rounded.

  Returns:
    The tree with `FakeFloat` leaves; masks survive. A grid on the weights is
    gone afterwards.

  Raises:
    ValueError: an unknown format or axis, nothing selected, weights not finite.

  Source: Micikevicius et al. 2022, "FP8 formats for deep learning".

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = cj.freeze(cj.quantize.cast({"w": jnp.eye(2)}, "float8_e4m3fn"))["w"]
    >>> leaf.values.dtype.name, leaf.values[0, 0].astype(float).item()
    ('float8_e4m3fn', 448.0)
  """
  if to not in FORMATS:
    raise ValueError(f"to={to!r}: must be one of {', '.join(FORMATS)}")
  return tree.transform(params, where, lambda path, x: _rounded(path, x, to, axis))


def _rounded(path: str, x: Any, to: str, axis: Axis) -> FakeFloat:
  checks.finite(path, x)
  value = unrounded(x)
  if jnp.finfo(to).bits > 8:  # wide enough for weights as they are
    return FakeFloat(value, None, to=to)
  return FakeFloat(value, fake_float.spanning(value, scale_shape(path, value.shape, axis), to),
                   to=to)
