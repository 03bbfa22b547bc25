"""What an exported function takes: one array, of any batch size where that is wanted."""

from __future__ import annotations

from typing import Any

import jax


def spec(x: Any, batch: str | None) -> jax.ShapeDtypeStruct:
  """Returns the shape and dtype that a function is traced on.

  Args:
    x: an array or `jax.ShapeDtypeStruct`; only its shape and dtype are used.
    batch: name of the first axis' size, which then may be any; None keeps x's.

  Returns:
    The shape, with a symbolic first axis if `batch` names one, and the dtype.

  Raises:
    ValueError: x is no array, has no axis to name, or `batch` is no name.

  Example:
    >>> import jax.numpy as jnp
    >>> spec(jnp.ones((2, 3)), "b").shape
    (b, 3)
  """
  if not hasattr(x, "shape") or not hasattr(x, "dtype"):
    raise ValueError(f"x: a {type(x).__name__}; it may be one array or jax.ShapeDtypeStruct")
  dtype = jax.dtypes.canonicalize_dtype(x.dtype)
  if batch is None:
    return jax.ShapeDtypeStruct(x.shape, dtype)
  if not isinstance(batch, str) or not batch.isidentifier():
    raise ValueError(f"batch={batch!r}: may be a name such as 'b', or None for x's own size")
  if not x.shape:
    raise ValueError(f"batch={batch!r}: x has no axis; it may be None")
  return jax.ShapeDtypeStruct((*jax.export.symbolic_shape(batch), *x.shape[1:]), dtype)


def refused(batch: str, error: Exception) -> ValueError:
  """Returns the error for a model that does not take batches of any size."""
  first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
  return ValueError(f"batch={batch!r}: the model does not take batches of any size ({first}); "
                    "it may be None: then the file takes batches of x's size")
