"""What of a deployed tree has to be stored, and its bytes by each convention."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np

from compress_jax.io import containers
from compress_jax.leaves import Payload, is_leaf
from compress_jax.leaves.base import payload_of


def payloads(params: Any) -> dict[str, Payload]:
  """Returns everything that has to be stored of a deployed tree, by path.

  Args:
    params: any pytree, frozen; what is not an array in it is passed over.

  Returns:
    {name: Payload}, in tree order; see `containers.named`.

  Example:
    >>> import numpy as np
    >>> list(payloads({"w": np.ones(2)}))
    ['w']
  """
  out = {}
  for name, x in containers.measurable(params):
    # A leaf that is the whole tree has no name of its own.
    out.update(x.payload() if is_leaf(x) and not name else payload_of(x, name))
  return out


def stored(name: str, all_payloads: dict[str, Payload]) -> np.ndarray:
  """Returns the elements that are stored of one payload.

  Args:
    name: of the payload.
    all_payloads: from `payloads`; the one that masks it is among them.

  Returns:
    A vector of the payload's dtype.
  """
  payload = all_payloads[name]
  x = np.asarray(payload.array)
  if payload.keep is None:
    return x.ravel()
  return x[np.asarray(all_payloads[payload.keep].array)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredBits:
  """Bits of what has to be stored, by convention.

  Attributes:
    nonzero: non-zero elements times the bits of their stored type; structure (masks,
      rows of blocks) is not counted.
    packed: every stored element at its bits, structure included.
    main: of an element of the largest payload that is no structure; 0 without any.
  """

  nonzero: int
  packed: int
  main: int


def stored_bits(all_payloads: dict[str, Payload]) -> StoredBits:
  """Counts the bits of what has to be stored.

  Args:
    all_payloads: from `payloads`.

  Returns:
    The sums.

  Example:
    >>> import numpy as np
    >>> stored_bits(payloads({"w": np.array([0, 1, 2], np.int8)}))
    StoredBits(nonzero=16, packed=24, main=8)
  """
  nonzero, packed, largest, main = 0, 0, -1, 0
  for name, payload in all_payloads.items():
    values = np.asarray(payload.array)
    packed += stored(name, all_payloads).size * payload.bits
    if payload.structure:
      continue
    nonzero += int(np.count_nonzero(values != np.asarray(payload.zero))) * payload.bits
    if values.size > largest:
      largest, main = values.size, payload.bits
  return StoredBits(nonzero=nonzero, packed=packed, main=main)


def gzip_bytes(all_payloads: dict[str, Payload]) -> int:
  """Compresses the stored arrays together, zeros in place, structure left out.

  Args:
    all_payloads: from `payloads`.

  Returns:
    Bytes of the gzip file at level 9.
  """
  raw = b"".join(np.asarray(p.array).tobytes() for p in all_payloads.values() if not p.structure)
  return len(zlib.compress(raw, 9, wbits=31))
