"""A stream of range-coded numbers (`constriction`): one writer, one reader.

Everything of an array goes through one stream, its tables included, so that only
one stream's end is paid for. Weights are whole numbers whose sum is below 2**53:
every sum of them is exact, and `constriction` makes its 24-bit probabilities of them
by one division and one product a symbol, which IEEE 754 rounds alike everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import constriction
import numpy as np

# The compiled module's submodules are not in what type checkers see of it.
_model = constriction.stream.model  # pyright: ignore[reportAttributeAccessIssue]
_queue = constriction.stream.queue  # pyright: ignore[reportAttributeAccessIssue]
LARGEST_SIZE = 1 << 16  # of an alphabet; format
_DIGIT_BITS = 16  # of a number written in digits, each from the largest alphabet


class CodingError(ValueError):
  """Bytes that no encoder wrote."""


class Writer:
  """Collects numbers; `getvalue` returns their bytes.

  Example:
    >>> writer = Writer()
    >>> writer.number(300)
    >>> Reader(writer.getvalue()).number()
    300
  """

  def __init__(self):
    self._encoder = _queue.RangeEncoder()

  def copy(self) -> Writer:
    """Returns a writer that goes on from here, to try one way of coding."""
    other = Writer()
    other._encoder = self._encoder.clone()
    return other

  def words(self) -> int:
    """Returns the length so far, in units of 4 bytes."""
    return self._encoder.num_words()

  def uniform(self, values: Any, size: int) -> None:
    """Writes whole numbers, all equally likely.

    Args:
      values: one, or a vector of them, from 0 to size - 1.
      size: of the alphabet; of 1 nothing is written.
    """
    if size > 1:
      values = np.atleast_1d(np.asarray(values, np.int32))
      self._encoder.encode(values, _model.Uniform(size))

  def symbols(self, values: np.ndarray, weights: np.ndarray) -> None:
    """Writes indices into a table.

    Args:
      values: one-dimensional, whole numbers.
      weights: of the table, float64 whole numbers; of a single one nothing is written.
    """
    if len(weights) > 1 and len(values):
      model = _model.Categorical(weights, perfect=False)
      self._encoder.encode(np.ascontiguousarray(values, np.int32), model)

  def number(self, value: int) -> None:
    """Writes a whole number; small ones take few bits.

    Args:
      value: from 0 to 2**63.
    """
    # Of value + 1: how many bits follow the highest one, then those bits.
    bits = int(value + 1).bit_length() - 1
    self.uniform(bits, 64)
    rest = value + 1 - (1 << bits)
    for start in range(0, bits, _DIGIT_BITS):
      width = min(_DIGIT_BITS, bits - start)
      self.uniform((rest >> start) & ((1 << width) - 1), 1 << width)

  def getvalue(self) -> bytes:
    """Returns the bytes of all that was written."""
    # The reader takes what lies behind the end for zeros, so that these need not be kept.
    return self._encoder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class Reader:
  """Reads what a `Writer` wrote, by the same calls in the same order.

  Args:
    data: from `Writer.getvalue`.

  Raises:
    CodingError: from any method: the bytes are none that a `Writer` wrote.
  """

  def __init__(self, data: bytes):
    words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
    self._decoder = _queue.RangeDecoder(words)

  def uniform(self, size: int, count: int | None = None) -> Any:
    """Returns numbers that `Writer.uniform` wrote.

    Args:
      size: of the alphabet.
      count: how many.

    Returns:
      int32, (count,); a single int if `count` is None.
    """
    if not 1 <= size <= LARGEST_SIZE:
      raise CodingError(f"an alphabet of {size} symbols; must be 1 to {LARGEST_SIZE}")
    amount = 1 if count is None else count
    out = np.zeros(amount, np.int32)
    if size > 1:
      out = _guarded(lambda: self._decoder.decode(_model.Uniform(size), amount))
    return int(out[0]) if count is None else out

  def symbols(self, weights: np.ndarray, count: int) -> np.ndarray:
    """Returns indices that `Writer.symbols` wrote.

    Args:
      weights: of the table.
      count: how many.

    Returns:
      int32, (count,).
    """
    if len(weights) == 1 or not count:
      return np.zeros(count, np.int32)
    model = _guarded(lambda: _model.Categorical(weights, perfect=False))
    return _guarded(lambda: self._decoder.decode(model, count))

  def number(self, limit: int = 2**63) -> int:
    """Returns a number that `Writer.number` wrote.

    Args:
      limit: the largest that makes sense here; CodingError beyond.
    """
    bits = self.uniform(64)
    rest = 0
    for start in range(0, bits, _DIGIT_BITS):
      width = min(_DIGIT_BITS, bits - start)
      rest |= self.uniform(1 << width) << start
    value = rest + (1 << bits) - 1
    if value > limit:
      raise CodingError(f"the number {value}; must be 0 to {limit}")
    return value


def _guarded(call: Callable[[], Any]) -> Any:
  """Returns what the call does; a panic inside `constriction` is no Exception."""
  try:
    return call()
  except (KeyboardInterrupt, SystemExit, MemoryError):
    raise  # not the coder's
  except BaseException as error:
    raise CodingError(f"the coder refuses its input ({str(error)[:80]})") from None
