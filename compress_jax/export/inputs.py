"""What an exported function takes: one array, of any batch size where that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

Made = TypeVar("Made")

# What tracing raises where a program depends on the batch's size: JAX on comparing
# symbols, converters on shapes that they cannot write or that they take for numbers.
_SYMBOLIC_FAILS = (TypeError, ValueError, NotImplementedError,
                   jax.errors.InconclusiveDimensionOperation)


def spec(x: Any, batch: str | None) -> jax.ShapeDtypeStruct:
  """Returns the shape and dtype that a function is traced on.

  Args:
    x: an array or `jax.ShapeDtypeStruct`; only its shape and dtype are used.
    batch: name of the first axis, which then may have any size; None keeps x's.

  Returns:
    The shape, with a symbolic first axis if `batch` names one, and the dtype.

  Raises:
    ValueError: x is not an array, has no axis to name, or `batch` is not a name.

  Example:
    >>> import jax.numpy as jnp
    >>> spec(jnp.ones((2, 3)), "b").shape
    (b, 3)
  """
  if not hasattr(x, "shape") or not hasattr(x, "dtype"):
    raise ValueError(f"x: a {type(x).__name__}; it must be one array or jax.ShapeDtypeStruct")
  dtype = jax.dtypes.canonicalize_dtype(x.dtype)
  if batch is None:
    return jax.ShapeDtypeStruct(x.shape, dtype)
  if not isinstance(batch, str) or not batch.isidentifier():
    raise ValueError(f"batch={batch!r}: must be a name such as 'b', or None for x's own size")
  if not x.shape:
    raise ValueError(f"batch={batch!r}: x has no axis; it must be None")
  return jax.ShapeDtypeStruct((*jax.export.symbolic_shape(batch), *x.shape[1:]), dtype)


def any_batch(make: Callable[[jax.ShapeDtypeStruct], Made], x: Any, batch: str | None) -> Made:
  """Makes what is exported, for batches of any size if that is asked for.

  Args:
    make: from the input's shape and dtype to what is exported.
    x: as in `spec`.
    batch: as in `spec`.

  Returns:
    What `make` returned.

  Raises:
    ValueError: as in `spec`, or the model does not take batches of any size.
    Exception: whatever the model raises on x itself.

  Example:
    >>> import jax.numpy as jnp
    >>> any_batch(lambda spec: spec.shape, jnp.ones((2, 3)), None)
    (2, 3)
  """
  fixed, wanted = spec(x, None), spec(x, batch)
  try:
    return make(wanted)
  except _SYMBOLIC_FAILS as error:
    if batch is None:
      raise
    # What fails on x's own size fails for that reason, and is raised from here.
    make(fixed)
    raise _refused(batch, error) from error


def _refused(batch: str, error: Exception) -> ValueError:
  """Returns the error for a model that does not take batches of any size."""
  lines = str(error).strip().splitlines()
  first = lines[0] if lines else type(error).__name__
  return ValueError(f"batch={batch!r}: the model does not take batches of any size ({first}); "
                    "it must be None: then the file takes batches of x's size")
