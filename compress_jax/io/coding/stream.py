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

_model = constriction.stream.model
_queue = constriction.stream.queue
LARGEST_SIZE = 1 << 16  # of an alphabet
_DIGIT = 1 << 16


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
    """Writes whole numbers from 0 to size - 1, all alike."""
    if size > 1:
      values = np.atleast_1d(np.asarray(values, np.int32))
      self._encoder.encode(values, _model.Uniform(size))

  def symbols(self, values: np.ndarray, weights: np.ndarray) -> None:
    """Writes indices into weights, float64 whole numbers."""
    if len(weights) > 1 and len(values):
      model = _model.Categorical(weights, perfect=False)
      self._encoder.encode(np.ascontiguousarray(values, np.int32), model)

  def number(self, value: int) -> None:
    """Writes a whole number from 0 to 2**63; small ones take few bits."""
    bits = int(value + 1).bit_length()
    self.uniform(bits - 1, 64)
    rest = value + 1 - (1 << (bits - 1))
    for start in range(0, bits - 1, 16):
      width = min(16, bits - 1 - start)
      self.uniform((rest >> start) & ((1 << width) - 1), 1 << width)

  def getvalue(self) -> bytes:
    """Returns the bytes; the reader takes what lies behind them for zeros."""
    return self._encoder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class Reader:
  """Reads what a `Writer` wrote, by the same calls in the same order.

  Raises:
    CodingError: from any method: the bytes are none that a `Writer` wrote.
  """

  def __init__(self, data: bytes):
    words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
    self._decoder = _queue.RangeDecoder(words)

  def uniform(self, size: int, count: int | None = None) -> Any:
    """Returns `count` numbers (int32) below size, or one."""
    if not 1 <= size <= LARGEST_SIZE:
      raise CodingError(f"an alphabet of {size} symbols; may be 1 to {LARGEST_SIZE}")
    amount = 1 if count is None else count
    out = np.zeros(amount, np.int32)
    if size > 1:
      out = _guarded(lambda: self._decoder.decode(_model.Uniform(size), amount))
    return int(out[0]) if count is None else out

  def symbols(self, weights: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` indices (int32) into weights."""
    if len(weights) == 1 or not count:
      return np.zeros(count, np.int32)
    model = _guarded(lambda: _model.Categorical(weights, perfect=False))
    return _guarded(lambda: self._decoder.decode(model, count))

  def number(self, limit: int = 2**63) -> int:
    """Returns a whole number, at most `limit`."""
    bits = self.uniform(64)
    rest = 0
    for start in range(0, bits, 16):
      rest |= self.uniform(1 << min(16, bits - start)) << start
    if (value := rest + (1 << bits) - 1) > limit:
      raise CodingError(f"the number {value}; may be 0 to {limit}")
    return value


def _guarded(call: Callable[[], Any]) -> Any:
  """Returns what the call does; a panic inside `constriction` is no Exception."""
  try:
    return call()
  except (KeyboardInterrupt, SystemExit, MemoryError):
    raise
  except BaseException as error:
    raise CodingError(f"the coder refuses its input ({str(error)[:80]})") from None
