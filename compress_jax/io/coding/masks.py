"""Masks: blocks of zeros, zeros by channel, so many of every group (N:M)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from compress_jax.io.coding import contexts, symbols
from compress_jax.io.coding.stream import CodingError, Reader, Writer

# The orders of these are part of the format: files hold places in them.
_KINDS = ("by place", "blocks", "groups")
_SIDES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_GROUP_SIZES = (2, 4, 8, 16)
# At most so many sizes of groups fit an array, and so many taps of a window are one group.
_LARGEST_GROUP = 32
_BLOCKS_HEADER, _GROUPS_HEADER = 60, 32  # bits, about: sizes and tables


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a mask is coded; by its elements' places where neither blocks nor groups are given.

  Attributes:
    bits: about what it takes.
    block: rows and columns of blocks that are told apart first, or None.
    group: axis of `contexts.view` and how many neighbors along it form a group, the
      context of an element being how many of its group are set so far; or None.
  """

  bits: float
  block: tuple[int, int] | None = None
  group: tuple[int, int] | None = None


def write(writer: Writer, mask: np.ndarray) -> None:
  """Writes a mask in the way that takes the fewest bits, about.

  Args:
    writer: the stream.
    mask: bool, of three axes, as `contexts.view` gives them.

  Example:
    >>> writer = Writer()
    >>> write(writer, np.eye(4, dtype=bool)[None])
    >>> read(Reader(writer.getvalue()), (1, 4, 4))[0, 0].tolist()
    [True, False, False, False]
  """
  if not mask.size:
    return
  bits = mask.ravel().view(np.uint8)
  by_place = Plan(contexts.choose(bits, mask.shape, None)[1])
  plan = min([by_place, *_grouped(mask), *_blocked(mask)], key=lambda p: p.bits)
  if plan.block is not None:
    writer.uniform(_KINDS.index("blocks"), len(_KINDS))
    _write_blocks(writer, mask, plan.block)
  elif plan.group is not None:
    writer.uniform(_KINDS.index("groups"), len(_KINDS))
    _write_groups(writer, mask, *plan.group)
  else:
    writer.uniform(_KINDS.index("by place"), len(_KINDS))
    symbols.write_placed(writer, bits, mask.shape)


def read(reader: Reader, shape: tuple[int, int, int]) -> np.ndarray:
  """Reads what `write` wrote.

  Args:
    reader: the stream.
    shape: of the mask.

  Returns:
    The mask, bool, of that shape.

  Raises:
    CodingError: not what `write` writes.
  """
  if not math.prod(shape):
    return np.zeros(shape, bool)
  kind = _KINDS[reader.uniform(len(_KINDS))]
  if kind == "blocks":
    return _read_blocks(reader, shape)
  if kind == "groups":
    return _read_groups(reader, shape)
  return _as_bits(symbols.read_placed(reader, shape)).reshape(shape)


def _as_bits(x: np.ndarray) -> np.ndarray:
  """Returns symbols that were read as bool; CodingError where they are no bits."""
  if len(x) and not 0 <= x.min() <= x.max() <= 1:
    raise CodingError(f"a mask has the value {x.max()}; must be 0 or 1")
  return x.astype(bool)


def _used(matrix: np.ndarray, block: tuple[int, int]) -> np.ndarray:
  """Returns which blocks of a matrix hold anything; those at the edges may be smaller."""
  (rows, columns), (height, width) = matrix.shape, block
  # A side of 1 changes nothing and is skipped: reduceat would copy the matrix, slowly.
  if width > 1:
    matrix = np.logical_or.reduceat(matrix, np.arange(0, columns, width), 1)
  if height > 1:
    matrix = np.logical_or.reduceat(matrix, np.arange(0, rows, height), 0)
  return matrix


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
  """Returns a plan for every size of blocks that fits."""
  matrix, plans = mask.reshape(-1, mask.shape[-1]), []
  ones = int(np.count_nonzero(matrix))
  for width in _SIDES:
    if width > matrix.shape[1]:
      break
    # Columns are merged once for all heights: that is most of the work.
    narrow = _used(matrix, (1, width))
    for height in _SIDES:
      if height > matrix.shape[0] or height * width == 1:
        continue
      blocks = _used(narrow, (height, 1))
      used = int(np.count_nonzero(blocks))
      # Blocks cut off at the edges hold less than their sides say.
      inside = max(ones, min(mask.size, used * height * width))
      bits = _entropy(used, blocks.size) + _entropy(ones, inside) + _BLOCKS_HEADER
      plans.append(Plan(bits, block=(height, width)))
  return plans


def _write_blocks(writer: Writer, mask: np.ndarray, block: tuple[int, int]) -> None:
  matrix = mask.reshape(-1, mask.shape[-1])
  blocks = _used(matrix, block)
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


def _groups_that_fit(shape: tuple[int, int, int]) -> list[tuple[int, int]]:
  """Returns (axis, size) of all groups that divide an array, in the format's order."""
  found = []
  # All taps of a window may be one group: patterns keep so many of each window.
  if 2 <= shape[0] <= _LARGEST_GROUP:
    found.append((0, shape[0]))
  for axis in (1, 2):
    for size in _GROUP_SIZES:
      if shape[axis] % size == 0:
        found.append((axis, size))
  return found


def _in_groups(mask: np.ndarray, axis: int, size: int) -> np.ndarray:
  """Returns a view (members of a group, groups)."""
  shape = mask.shape
  split = mask.reshape(*shape[:axis], shape[axis] // size, size, *shape[axis + 1:])
  return np.moveaxis(split, axis + 1, 0).reshape(size, -1)


def _grouped(mask: np.ndarray) -> list[Plan]:
  """Returns a plan for every size of groups that fits."""
  plans = []
  for axis, size in _groups_that_fit(mask.shape):
    members = _in_groups(mask, axis, size)
    bits, so_far = float(_GROUPS_HEADER), np.zeros(members.shape[1], np.uint8)
    for member in members:
      # One row for each count so far, one column for each value of the member.
      counts = np.bincount(2 * so_far + member, minlength=2 * size + 2).reshape(-1, 2)
      occurring = counts.sum(1) > 0
      bits += contexts.estimate(counts[occurring])
      so_far += member
    plans.append(Plan(bits, group=(axis, size)))
  return plans


def _write_groups(writer: Writer, mask: np.ndarray, axis: int, size: int) -> None:
  writer.uniform(_groups_that_fit(mask.shape).index((axis, size)), _LARGEST_GROUP)
  members = _in_groups(mask, axis, size)
  so_far = np.zeros(members.shape[1], np.uint8)
  for member in members:
    symbols.write(writer, member.view(np.uint8), so_far, size + 1)
    so_far += member


def _read_groups(reader: Reader, shape: tuple[int, int, int]) -> np.ndarray:
  choice, known = reader.uniform(_LARGEST_GROUP), _groups_that_fit(shape)
  if choice >= len(known):
    raise CodingError(f"group size number {choice}; there are {len(known)}")
  axis, size = known[choice]
  members = np.zeros((size, math.prod(shape) // size), bool)
  so_far = np.zeros(members.shape[1], np.uint8)
  for member in members:
    member[:] = _as_bits(symbols.read(reader, len(member), so_far, size + 1))
    so_far += member
  groups = list(shape)
  groups[axis] //= size
  # Members go back behind their group, beside each other.
  return np.moveaxis(members.reshape(size, *groups), 0, axis + 1).reshape(shape)
