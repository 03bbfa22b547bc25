"""What is written is read, and a panic of the coder below is an error like others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_jax.io.coding import contexts, stream, symbols, tables
from compress_jax.io.coding.stream import CodingError, Reader, Writer


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_numbers(numbers):
  writer = Writer()
  for number in numbers:
    writer.number(number)
  reader = Reader(writer.getvalue())
  assert [reader.number() for _ in numbers] == numbers


def test_a_number_beyond_its_limit_is_refused():
  writer = Writer()
  writer.number(300)
  with pytest.raises(CodingError, match="the number 300; must be 0 to 299"):
    Reader(writer.getvalue()).number(299)


def test_a_panic_is_an_error():
  def panic():
    raise type("PanicException", (BaseException,), {})("assertion failed")
  with pytest.raises(CodingError, match="assertion failed"):
    stream._guarded(panic)
  with pytest.raises(CodingError, match="alphabet of 65537"):
    Reader(b"").uniform(65537)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300).filter(any),
       st.integers(-300, 300))
def test_tables_come_back(counts, low):
  counts = np.array(counts)
  table, writer = tables.fit(counts, low), Writer()
  bounds = low, low + len(counts)
  table.write(writer, bounds)
  other = tables.read(Reader(writer.getvalue()), bounds)
  assert (other.low, other.high) == (table.low, table.high)
  np.testing.assert_array_equal(other.weights(), table.weights())
  assert (table.weights() >= 1).all() and table.weights().sum() < 2**53


def test_powers_are_exact():
  np.testing.assert_array_equal(tables._POWERS, np.floor(2**(12 + np.arange(256) / 256)))


def test_smooth_histograms_take_few_knots():
  codes = np.rint(np.random.default_rng(0).normal(size=4000) * 30).astype(int)
  table = tables.fit(np.bincount(codes - codes.min()), int(codes.min()))
  assert table.shift > 2 and len(table.levels) < 20


def test_too_many_contexts_are_refused():
  writer = Writer()
  many = np.arange(16, dtype=np.uint8)
  symbols.write_classes(writer, contexts.Classes((None, many, many)))
  with pytest.raises(CodingError, match="256 contexts; must be 1 to 64"):
    symbols.read_classes(Reader(writer.getvalue()), (1, 16, 16))


def test_wide_symbols_are_refused():
  with pytest.raises(ValueError, match="must span at most 65536"):
    symbols.write(Writer(), np.array([0, 65536]))
