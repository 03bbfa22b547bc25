"""Masks: blocks of zeros, zeros by channel, so many of every group (N:M)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from compress_jax.io.coding import contexts, symbols
from compress_jax.io.coding.stream import CodingError, Reader, Writer

_SIDES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_GROUPS = (2, 4, 8, 16)
_LARGEST_GROUP = 32


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a mask is coded.

  Attributes:
    bits: about what it takes.
    block: rows and columns of blocks that are told apart first, or None.
    group: axis of `contexts.view` and how many neighbours along it form a group, the
      context of an element being how many of its group are set so far; or None.
  """

  bits: float
  block: tuple[int, int] | None = None
  group: tuple[int, int] | None = None


def write(writer: Writer, mask: np.ndarray) -> None:
  """Writes a bool array of three axes, as `contexts.view` gives them.

  Example:
    >>> writer = Writer()
    >>> write(writer, np.eye(4, dtype=bool)[None])
    >>> read(Reader(writer.getvalue()), (1, 4, 4))[0, 0].tolist()
    [True, False, False, False]
  """
  if not mask.size:
    return
  bits = mask.ravel().view(np.uint8)
  plan = min([Plan(contexts.choose(bits, mask.shape, None)[1]), *_grouped(mask), *_blocked(mask)],
             key=lambda p: p.bits)
  writer.uniform(1 if plan.block else 2 if plan.group else 0, 3)
  if plan.block:
    _write_blocks(writer, mask, plan.block)
  elif plan.group:
    _write_groups(writer, mask, *plan.group)
  else:
    symbols.write_placed(writer, bits, mask.shape)


def read(reader: Reader, shape: tuple[int, int, int]) -> np.ndarray:
  """Reads what `write` wrote.

  Raises:
    CodingError: not what `write` writes.
  """
  if not math.prod(shape):
    return np.zeros(shape, bool)
  kind = reader.uniform(3)
  if kind == 1:
    return _read_blocks(reader, shape)
  if kind == 2:
    return _read_groups(reader, shape)
  return _as_bits(symbols.read_placed(reader, shape)).reshape(shape)


def _as_bits(x: np.ndarray) -> np.ndarray:
  if len(x) and not 0 <= x.min() <= x.max() <= 1:
    raise CodingError(f"a mask has the value {x.max()}; may be 0 or 1")
  return x.astype(bool)


def _tiled(matrix: np.ndarray, block: tuple[int, int]) -> np.ndarray:
  """Returns which blocks hold anything; those at the edges may be smaller."""
  rows, columns = (np.arange(0, n, b) for n, b in zip(matrix.shape, block, strict=True))
  narrow = np.logical_or.reduceat(matrix, columns, 1) if block[1] > 1 else matrix
  return np.logical_or.reduceat(narrow, rows, 0) if block[0] > 1 else narrow


def _spread(blocks: np.ndarray, block: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
  """Returns, for each element, whether its block holds anything."""
  wide = np.repeat(blocks, block[1], 1)[:, :shape[1]]
  return np.repeat(wide, block[0], 0)[:shape[0]]


def _entropy(ones: int, size: int) -> float:
  """Returns the bits of so many ones among `size` elements, without their places."""
  if not 0 < ones < size:
    return 0.0
  p = ones / size
  return -size * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def _blocked(mask: np.ndarray) -> list[Plan]:
  matrix, plans = mask.reshape(-1, mask.shape[-1]), []
  ones = int(np.count_nonzero(matrix))
  for width in _SIDES:
    if width > matrix.shape[1]:
      break
    narrow = _tiled(matrix, (1, width))
    for height in _SIDES:
      if height > matrix.shape[0] or height * width == 1:
        continue
      blocks = _tiled(narrow, (height, 1))
      used = int(np.count_nonzero(blocks))
      inside = max(ones, min(mask.size, used * height * width))
      bits = _entropy(used, blocks.size) + _entropy(ones, inside) + 60
      plans.append(Plan(bits, block=(height, width)))
  return plans


def _write_blocks(writer: Writer, mask: np.ndarray, block: tuple[int, int]) -> None:
  matrix = mask.reshape(-1, mask.shape[-1])
  blocks = _tiled(matrix, block)
  writer.uniform(_SIDES.index(block[0]), len(_SIDES))
  writer.uniform(_SIDES.index(block[1]), len(_SIDES))
  symbols.write_placed(writer, blocks.ravel().view(np.uint8), (1, *blocks.shape))
  present = _spread(blocks, block, matrix.shape).ravel()
  symbols.write_placed(writer, mask.ravel()[present].view(np.uint8), mask.shape, present)


def _read_blocks(reader: Reader, shape: tuple[int, int, int]) -> np.ndarray:
  block = _SIDES[reader.uniform(len(_SIDES))], _SIDES[reader.uniform(len(_SIDES))]
  matrix = shape[0] * shape[1], shape[2]
  tiles = tuple(-(-n // b) for n, b in zip(matrix, block, strict=True))
  blocks = _as_bits(symbols.read_placed(reader, (1, *tiles))).reshape(tiles)
  present = _spread(blocks, block, matrix).ravel()
  out = np.zeros(math.prod(shape), bool)
  out[present] = _as_bits(symbols.read_placed(reader, shape, present))
  return out.reshape(shape)


def _grouped_sizes(shape: tuple[int, int, int]) -> list[tuple[int, int]]:
  """Returns the (axis, size) of groups that fit."""
  whole = [(0, shape[0])] if 2 <= shape[0] <= _LARGEST_GROUP else []
  return whole + [(axis, m) for axis in (1, 2) for m in _GROUPS if shape[axis] % m == 0]


def _in_groups(mask: np.ndarray, axis: int, size: int) -> np.ndarray:
  """Returns a view (members of a group, groups)."""
  shape = mask.shape
  split = mask.reshape(*shape[:axis], shape[axis] // size, size, *shape[axis + 1:])
  return np.moveaxis(split, axis + 1, 0).reshape(size, -1)


def _grouped(mask: np.ndarray) -> list[Plan]:
  plans = []
  for axis, size in _grouped_sizes(mask.shape):
    members = _in_groups(mask, axis, size)
    bits, so_far = 32.0, np.zeros(members.shape[1], np.uint8)
    for member in members:
      counts = np.bincount(2 * so_far + member, minlength=2 * size + 2).reshape(-1, 2)
      bits += contexts.estimate(counts[counts.sum(1) > 0])
      so_far += member
    plans.append(Plan(bits, group=(axis, size)))
  return plans


def _write_groups(writer: Writer, mask: np.ndarray, axis: int, size: int) -> None:
  writer.uniform(_grouped_sizes(mask.shape).index((axis, size)), _LARGEST_GROUP)
  members = _in_groups(mask, axis, size)
  so_far = np.zeros(members.shape[1], np.uint8)
  for member in members:
    symbols.write(writer, member.view(np.uint8), so_far, size + 1)
    so_far += member


def _read_groups(reader: Reader, shape: tuple[int, int, int]) -> np.ndarray:
  choice, sizes = reader.uniform(_LARGEST_GROUP), _grouped_sizes(shape)
  if choice >= len(sizes):
    raise CodingError(f"group size number {choice}; there are {len(sizes)}")
  axis, size = sizes[choice]
  members = np.zeros((size, math.prod(shape) // size), bool)
  so_far = np.zeros(members.shape[1], np.uint8)
  for member in members:
    member[:] = _as_bits(symbols.read(reader, len(member), so_far, size + 1))
    so_far += member
  split = [shape[i] // size if i == axis else shape[i] for i in range(3)]
  return np.moveaxis(members.reshape(size, *split), 0, axis + 1).reshape(shape)
