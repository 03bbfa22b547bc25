"""`LowRank`: a product of two thinner factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from compress_jax.leaves import axes, base
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.factors import Factors


@base.node
class LowRank(Factors):
  """Stands for `u @ v`; a convolution's `u` keeps the kernel's spatial axes.

  Attributes:
    u: array or leaf of shape (..., inputs, rank); trains.
    v: array or leaf of shape (rank, outputs); trains.

  Example:
    >>> import jax.numpy as jnp
    >>> LowRank(jnp.ones((3, 1)), jnp.ones((1, 2))).dense().shape
    (3, 2)
  """

  u: Array | Leaf
  v: Array | Leaf

  trains = ("u", "v")
  parts = ("u", "v")
  matrices = ("v",)

  @property
  def shape(self):
    return (*self.u.shape[:-1], self.v.shape[-1])

  @property
  def rank(self) -> int:
    """The number of columns of `u`."""
    return self.u.shape[-1]

  @property
  def ranks(self):
    return (self.rank,)

  def dense(self) -> Array:
    u, v = self.dense_parts()
    return jnp.matmul(u, v, precision="highest")

  def transposed(self, order: tuple[int, ...]) -> LowRank:
    if tuple(order) != (1, 0):
      self._cannot("be transposed", "only a matrix of factors can be transposed")
    return LowRank(axes.transposed(self.v, order), axes.transposed(self.u, order))

  def taken(self, rows: Array) -> LowRank:
    u = axes.taken(self.u, rows, self.shape[0])
    # Of a stack every matrix has its own v; of one matrix all rows share it.
    v = axes.taken(self.v, rows, self.shape[0]) if self.v.ndim > 2 else self.v
    return self.replace(u=u, v=v)

  def sliced(self, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> LowRank:
    taken = [slice(*bounds) for bounds in zip(start, stop, step, strict=True)]
    if any(len(range(size)[one]) != size for one, size in zip(taken[-2:], self.shape[-2:],
                                                              strict=True)):
      self._cannot("be sliced", "a matrix of factors can only be taken whole")
    # The last two axes of either factor stay; v has as many axes of a stack as it has.
    whole, stack = slice(None), self.v.ndim - 2
    return LowRank(axes.sliced(self.u, [*taken[:-2], whole, whole]),
                   axes.sliced(self.v, [*taken[:stack], whole, whole]))

  def squeezed(self, dims: tuple[int, ...]) -> LowRank:
    if any(axis >= self.ndim - 2 for axis in dims):
      self._cannot("lose axes", "a matrix of factors has two")
    of_v = tuple(axis for axis in dims if axis < self.v.ndim - 2)
    return LowRank(axes.squeezed(self.u, dims), axes.squeezed(self.v, of_v))

  def partition_specs(self, spec: tuple[Any, ...], shards: Sequence[int]) -> LowRank:
    # The rank is summed over: it stays whole.
    u = axes.partition_specs(self.u, (*spec[:-1], None), (*shards[:-1], 1))
    # A stack's v has the axes of the stack too, a convolution's is one matrix.
    stack = self.v.ndim - 2
    v = axes.partition_specs(self.v, (*spec[:stack], None, spec[-1]),
                             (*shards[:stack], 1, shards[-1]))
    return LowRank(u, v)

  def validate(self) -> None:
    super().validate()
    self._check_meet("u", -1, "v", -2)
    if self.v.ndim not in (2, self.u.ndim):
      raise ValueError(f"LowRank.v: shape {tuple(self.v.shape)}; must be a matrix, or a stack of "
                       "as many as u")
