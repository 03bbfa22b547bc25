"""The dtypes that are computed in where weights are stored in others."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> Any:
  """Returns the dtype in which floats are summed and factorized.

  Args:
    dtype: of the floats.

  Returns:
    float64 where it is that (in JAX's 64-bit mode), else float32.

  Example:
    >>> at_least_float32("float16"), at_least_float32("float8_e4m3fn")
    (dtype('float32'), dtype('float32'))
  """
  # Not `promote_types`: JAX promotes no floats of 8 bits.
  return jnp.dtype("float64" if jnp.dtype(dtype) == "float64" else "float32")


def at_least_int32(dtype: DTypeLike) -> Any:
  """Returns the dtype in which indices are compared and divided.

  Args:
    dtype: of the indices.

  Returns:
    int32 for integers of fewer bits, which may not hold the length of what they point into;
    else the dtype itself.

  Example:
    >>> at_least_int32("uint8"), at_least_int32("uint32")
    (dtype('int32'), dtype('uint32'))
  """
  # Not `promote_types`: without 64 bits it would make large uint32 negative.
  return jnp.dtype("int32" if jnp.dtype(dtype).itemsize < 4 else dtype)
