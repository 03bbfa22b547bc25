"""How many weights of each layer are zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from compress_jax import tree
from compress_jax.leaves import dense_of


def sparsity(params: Any, *, where: tree.Where = None) -> dict[str, float]:
  """Returns the fraction of zeros, layer by layer.

  Args:
    params: a parameter tree; low-rank leaves count by their factors.
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`).

  Returns:
    {path: 0 to 1}, in tree order.

  Raises:
    ValueError: nothing selected.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> sparsity(cj.prune.magnitude({"a": jnp.eye(2), "b": jnp.ones((1, 4))}, 0.25))
    {'a': 0.5, 'b': 0.0}
  """
  chosen, _ = tree.select_parts(params, where)
  found = {}
  for path, x in chosen:
    zeros = x.size - int(np.count_nonzero(np.asarray(dense_of(x))))
    found[path] = zeros / max(x.size, 1)  # of an empty array none
  return found
