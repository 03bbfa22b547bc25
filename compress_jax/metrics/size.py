"""Sizes of a model, by five conventions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from compress_jax import tree
from compress_jax.io import artifact, containers, payloads
from compress_jax.leaves import dense_of, parts_of
from compress_jax.leaves.base import bits_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
  """Bytes of a model.

  Attributes:
    dense: every element of the arrays that the tree stands for, at their dtype.
    nonzero: non-zero elements times the bits of their stored type, rounded up
      ("Combinatorics with model compression", section 3.1); masks and other
      structure are not counted.
    gzip: the stored arrays, zeros in place, compressed together at level 9 (the
      convention of "Evaluation of compression combinations"); masks not counted.
    packed: every stored element at its bits, structure included, before any
      entropy coding.
    artifact: the file that `artifact.save` writes.
  """

  dense: int
  nonzero: int
  gzip: int
  packed: int
  artifact: int


def size(params: Any, *, artifact_bytes: int | None = None) -> Size:
  """Measures a model.

  Args:
    params: any pytree; trainable leaves are measured as deployed. Every array counts, PRNG
      keys and what does not train too; what is not an array (functions, strings) does not.
    artifact_bytes: of the file, where it has been written; None encodes it here.

  Returns:
    Bytes by each convention.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> w = cj.prune.magnitude({"w": jnp.arange(64.0).reshape(8, 8)}, 0.75)
    >>> cj.size(w).dense, cj.size(w).nonzero
    (256, 64)
  """
  params = containers.frozen(params)
  everything = payloads.payloads(params)
  bits = payloads.stored_bits(everything)
  if artifact_bytes is None:
    artifact_bytes = len(artifact.encode(params))
  return Size(dense=_dense_bytes(params), nonzero=-(-bits.nonzero // 8),
              packed=-(-bits.packed // 8), gzip=payloads.gzip_bytes(everything),
              artifact=artifact_bytes)


def _dense_bytes(params: Any) -> int:
  arrays = [x for _, x in containers.measurable(params)]
  return -(-sum(x.size * bits_of(x.dtype) for x in arrays) // 8)


def count(params: Any) -> tuple[int, int]:
  """Counts the numbers that a model is made of.

  Args:
    params: a parameter tree; low-rank leaves count their factors. Scales and
      other descriptions of a leaf are not counted; a complex number is one parameter.

  Returns:
    (parameters, non-zero parameters).

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> count(cj.prune.magnitude({"w": jnp.ones((2, 2))}, 0.5))
    (4, 2)
  """
  total = nonzero = 0
  for _, x in tree.entries(params)[0]:
    for part in parts_of(x).values() if tree.is_inexact(x) else ():
      values = np.asarray(dense_of(part))
      total, nonzero = total + values.size, nonzero + int(np.count_nonzero(values))
  return total, nonzero
