"""A tree of parameters as a table, in code: `cj.summary(params)`."""

from __future__ import annotations

import dataclasses
from typing import Any

from compress_jax.inspect import columns, terminal
from compress_jax.io import leaf_summary
from compress_jax.io.leaf_summary import LeafSummary

_FIELDS = ("path", "kind", "shape", "params", "nonfinite", "sparsity", "rank", "bits", "input_bits",
           "packed_bytes", "share")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Summary:
  """What each leaf of a tree is and takes; printed, it is a table.

  Attributes:
    leaves: one description for each leaf, in tree order.
  """

  leaves: tuple[LeafSummary, ...]

  @property
  def params(self) -> int:
    """Parameters, as `cj.count` counts them: floats, complex numbers and those of leaves."""
    return sum(leaf.params for leaf in self.leaves if leaf.learns)

  @property
  def nonzero(self) -> int | None:
    """How many of them are not zero; None where a leaf cannot be asked (a stack of leaves)."""
    return leaf_summary.total([leaf.nonzero for leaf in self.leaves if leaf.learns])

  @property
  def packed_bytes(self) -> int | None:
    """Every stored element at its bits, masks and scales included; None as for `nonzero`."""
    return leaf_summary.total([leaf.packed_bytes for leaf in self.leaves])

  def __repr__(self) -> str:
    """Returns the table, and a line of totals."""
    rows = columns.rows_of(self.leaves)
    fields = [field for field in _FIELDS if field in columns.fields_of(rows, _FIELDS)]
    table = terminal.plain_table(
        [columns.heading(field) for field in fields],
        [[columns.text(field, row) for field in fields] for row in rows],
        [columns.holds_numbers(field, rows) for field in fields])
    totals = {"nonzero": self.nonzero, "packed_bytes": self.packed_bytes}
    nonzero, packed_bytes = (columns.text(field, totals) for field in totals)
    return (f"{table}\ntotal: {self.params:,} parameters, {nonzero} not zero, "
            f"{packed_bytes} bytes packed")


def summary(params: Any) -> Summary:
  """Describes every leaf of a tree.

  Args:
    params: a parameter tree of arrays and leaves; trainable leaves are measured as deployed.

  Returns:
    What prints as a table: one row per leaf, with the columns that some leaf has a value in.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = {"w": jnp.arange(1.0, 65.0).reshape(8, 8), "b": jnp.ones(8)}
    >>> summary(cj.quantize.affine(cj.prune.magnitude(params, 0.75), bits=8))
    path  what                shape  params  sparsity  bits  packed B   share
    b     array               8           8     0.0 %    32        32  25.0 %
    w     FakeQuant > Masked  8×8        64    75.0 %     8        96  75.0 %
    total: 72 parameters, 24 not zero, 128 bytes packed
  """
  return Summary(leaves=tuple(leaf_summary.summarize(params)))
