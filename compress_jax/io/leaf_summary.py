"""What each leaf of a tree is and takes, as plain numbers that a manifest can keep."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax import tree
from compress_jax.io import artifact
from compress_jax.io.structure import rebuild
from compress_jax.leaves import Leaf, Node, dense_of, freeze_of
from compress_jax.leaves.base import bits_of

BLOCK = (4, 4)  # of leaves that were not pruned in blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeafSummary:
  """One leaf, described; what is not known without its weights is None.

  Attributes:
    path: "/"-joined.
    kind: the leaf's type, then what it holds: "FakeQuant > Masked"; or "array".
    shape: of the array that it stands for.
    dtype: of that array.
    params: numbers that it is made of; a low-rank leaf's are its factors'.
    nonzero: how many of them are not zero.
    sparsity: the fraction of `params` that is zero.
    block: rows and columns of the blocks that `block_sparsity` counts: the leaf's
      own, or else `BLOCK`.
    block_sparsity: the fraction of blocks with nothing but zeros.
    rank: of a factorized leaf; two for Tucker-2.
    bits: of a stored weight, when deployed.
    input_bits: of the layer's quantized input.
    scale_min: the smallest step of its grids.
    scale_max: the largest.
    dense_bytes: elements of the array times their dtype's bytes.
    nonzero_bytes: non-zero elements times the bits of their stored type.
    packed_bytes: every stored element at its bits, masks and scales included.
    gzip_bytes: the stored arrays of this leaf through gzip; only where asked for.
  """

  path: str
  kind: str
  shape: tuple[int, ...]
  dtype: str
  params: int
  nonzero: int | None = None
  sparsity: float | None = None
  block: tuple[int, ...] | None = None
  block_sparsity: float | None = None
  rank: tuple[int, ...] | None = None
  bits: int | None = None
  input_bits: int | None = None
  scale_min: float | None = None
  scale_max: float | None = None
  dense_bytes: float
  nonzero_bytes: float | None = None
  packed_bytes: float | None = None
  gzip_bytes: int | None = None


def summarize(params: Any, *, gzip: bool = False) -> list[LeafSummary]:
  """Describes every leaf of a tree.

  Args:
    params: a parameter tree; trainable leaves are measured as deployed.
    gzip: whether `gzip_bytes` is filled in, which takes longest.

  Returns:
    A description a leaf, in tree order. Bytes have fractions where an element
    takes only part of one.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = summarize(cj.prune.magnitude({"w": jnp.arange(64.0).reshape(8, 8)}, 0.75))[0]
    >>> leaf.kind, leaf.sparsity, leaf.dense_bytes, leaf.nonzero_bytes, leaf.packed_bytes
    ('Masked', 0.75, 256.0, 64.0, 72.0)
  """
  return [_measured(path, x, gzip) for path, x in tree.entries(params)[0]]


def outline(structure: Any) -> list[LeafSummary]:
  """Describes the leaves of a structure whose arrays are not at hand.

  Args:
    structure: from `describe`.

  Returns:
    As `summarize`, with None for what only the weights tell.

  Example:
    >>> import numpy as np
    >>> from compress_jax.io.structure import describe
    >>> outline(describe({"w": np.ones((2, 3), np.float32)})[0])[0].dense_bytes
    24.0
  """
  # One element, seen from everywhere: takes no memory.
  hollow = lambda e: np.broadcast_to(np.zeros((), jnp.dtype(e["dtype"])), e["shape"])
  return [_outlined(path, x) for path, x in tree.entries(rebuild(structure, hollow))[0]]


def from_json(entry: Mapping[str, Any]) -> LeafSummary:
  """Returns what `to_json` made; fields of later versions are left out.

  Example:
    >>> leaf = outline({"array": "", "shape": [2], "dtype": "int8"})[0]
    >>> from_json(to_json(leaf) | {"unheard_of": 1}) == leaf
    True
  """
  known = {f.name: entry[f.name] for f in dataclasses.fields(LeafSummary) if f.name in entry}
  return LeafSummary(**{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})


def to_json(leaf: LeafSummary) -> dict[str, Any]:
  """Returns a description as a dict, without what is None."""
  return {k: list(v) if isinstance(v, tuple) else v
          for k, v in dataclasses.asdict(leaf).items() if v is not None}


def kind(x: Any) -> str:
  """Returns what an array or leaf is, from the outside in.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine(cj.prune.magnitude({"w": jnp.eye(2)}, 0.5), bits=8)
    >>> kind(params["w"])
    'FakeQuant > Masked'
  """
  if not isinstance(x, Node):
    return "array"
  parts = getattr(x, "parts", ())
  held = [kind(v) for k, v in x.fields().items() if k in parts or isinstance(v, Leaf)]
  if not held or set(held) == {"array"}:
    return type(x).__name__
  inner = held[0] if len(set(held)) == 1 else f"({', '.join(held)})"
  return f"{type(x).__name__} > {inner}"


def nodes(x: Any) -> Iterator[Node]:
  """Yields a leaf and all nodes inside it; nothing of an array."""
  if isinstance(x, Node):
    yield x
    for value in x.fields().values():
      yield from nodes(value)


def parts(x: Any) -> list[Any]:
  """Returns what transforms treat as matrices: a leaf's factors, or the leaf itself."""
  return [getattr(x, name) for name in getattr(x, "parts", ())] or [x]


def _outlined(path: str, x: Any) -> LeafSummary:
  x = x if hasattr(x, "dtype") else np.asarray(x)
  rank = getattr(x, "rank", getattr(x, "ranks", None)) if isinstance(x, Leaf) else None
  rank = (rank,) if isinstance(rank, int) else rank
  return LeafSummary(
      path=path, kind=kind(x), shape=tuple(x.shape), dtype=jnp.dtype(x.dtype).name,
      params=sum(part.size for part in parts(x)), rank=rank and tuple(map(int, rank)),
      dense_bytes=x.size * bits_of(x.dtype) / 8)


def _measured(path: str, x: Any, gzip: bool) -> LeafSummary:
  known = _outlined(path, x)
  try:
    frozen = freeze_of(x)  # stands for the same numbers, and is measured anyway
    found = {**_zeros(x, frozen), **_scales(x), **_stored(frozen, gzip)}
  except ValueError:  # a stack of leaves is neither dense nor frozen as one
    return known
  return dataclasses.replace(known, **found)


def _zeros(x: Any, frozen: Any) -> dict[str, Any]:
  values = [np.asarray(dense_of(part)) for part in parts(frozen)]
  size, nonzero = sum(v.size for v in values), sum(int(np.count_nonzero(v)) for v in values)
  found: dict[str, Any] = {"nonzero": nonzero}
  if size:
    found["sparsity"] = 1 - nonzero / size
  if size and len(values) == 1 and values[0].ndim >= 2:
    own = [n.block for n in nodes(x) if getattr(n, "block", None)]
    found["block"] = tuple(map(int, (own or [BLOCK])[0]))
    found["block_sparsity"] = empty_blocks(values[0], found["block"])
  return found


def empty_blocks(values: np.ndarray, block: tuple[int, int]) -> float:
  """Returns the fraction of blocks that hold only zeros.

  Args:
    values: array of two or more dimensions; rows are all axes but the last.
    block: rows and columns of a block; those at the edges may be smaller.

  Example:
    >>> import numpy as np
    >>> empty_blocks(np.eye(4), (2, 2))
    0.5
  """
  matrix = values.reshape(-1, values.shape[-1]) != 0
  padded = np.pad(matrix, [(0, -n % b) for n, b in zip(matrix.shape, block, strict=True)])
  rows, columns = padded.shape
  tiles = padded.reshape(rows // block[0], block[0], columns // block[1], block[1])
  return 1 - float(tiles.any((1, 3)).mean())


def _scales(x: Any) -> dict[str, Any]:
  leaves = [n for n in nodes(x) if isinstance(n, Leaf)]
  scales = [np.asarray(n.scale, np.float64).ravel() for n in leaves
            if getattr(n, "scale", None) is not None]
  every = np.concatenate([*scales, np.zeros(0)])
  every = every[np.isfinite(every)]  # JSON has no other numbers
  inputs = [np.asarray(n.input.bits) for n in leaves if getattr(n, "input", None) is not None]
  found: dict[str, Any] = {"input_bits": int(inputs[0].max())} if inputs else {}
  return found | ({"scale_min": float(every.min()), "scale_max": float(every.max())}
                  if every.size else {})


def _stored(frozen: Any, gzip: bool) -> dict[str, Any]:
  """Returns bits, and the bytes by each convention; see `size.Size`."""
  everything = artifact.payloads({"x": frozen})
  values = {name: np.asarray(p.array) for name, p in everything.items()}
  shown = {name: p for name, p in everything.items() if not p.structure}
  kept = lambda name, p: (values[name].size if p.keep is None
                          else int(np.count_nonzero(values[p.keep])))
  nonzero = sum(int(np.count_nonzero(values[name] != np.asarray(p.zero))) * p.bits
                for name, p in shown.items())
  packed = sum(kept(name, p) * p.bits for name, p in everything.items())
  main = max(shown, key=lambda name: values[name].size)
  found = {"bits": shown[main].bits, "nonzero_bytes": nonzero / 8, "packed_bytes": packed / 8}
  raw = b"".join(values[name].tobytes() for name in shown) if gzip else b""
  return found | ({"gzip_bytes": len(zlib.compress(raw, 9, wbits=31))} if gzip else {})


def total(values: list[float | None]) -> float | None:
  """Returns a sum, rounded up; None where a summand is not known.

  Example:
    >>> total([0.5, 1.0]), total([1.0, None])
    (2, None)
  """
  return None if any(v is None for v in values) else math.ceil(sum(values))
