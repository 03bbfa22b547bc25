"""Which dtypes files keep: those whose arrays JAX takes back."""

from __future__ import annotations

import functools
import re

import jax.numpy as jnp
import numpy as np

_WIDE = re.compile(r"bool|u?int(2|4|8|16|32|64)|bfloat16|float(16|32|64|8_\w+)|complex(64|128)")
_NARROW = re.compile(r"float[46]_\w+")
_KINDS = ("bool, integers of 2 to 64 bits, floats of at most 64 bits, complex64 or complex128, as "
          "far as this release of JAX has them")


def check(name: str, dtype: str) -> None:
  """Refuses a dtype of which JAX has no arrays.

  Args:
    name: of the array, for the error.
    dtype: its dtype's name.

  Raises:
    ValueError: names both, and says what it may be.

  Example:
    >>> check("w", "float128")
    Traceback (most recent call last):
    ValueError: w: dtype 'float128'; must be bool, integers of 2 to 64 bits, floats of at most
      64 bits, complex64 or complex128, as far as this release of JAX has them
  """
  if not (_WIDE.fullmatch(dtype) or (_NARROW.fullmatch(dtype) and _is_taken(dtype))):
    raise ValueError(f"{name}: dtype {dtype[:60]!r}; must be {_KINDS}")


@functools.cache
def _is_taken(dtype: str) -> bool:
  """Returns whether this release of JAX has arrays of a dtype; some have its name alone."""
  try:
    return jnp.asarray(np.zeros(1, jnp.dtype(dtype))).dtype.name == dtype
  except Exception:  # of XLA, of any kind
    return False
