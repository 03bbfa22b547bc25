"""How far weights moved: the norms of numpy, a slice at a time."""

import math
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from compress_jax.inspect import diff

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64", "int8"])
def test_the_change_is_that_of_the_norms(dtype, monkeypatch):
  monkeypatch.setattr(diff, "_SLICE", 100)
  past, now = (jnp.asarray(RNG.normal(size=(31, 17)) * 9).astype(dtype) for _ in range(2))
  wide = [np.asarray(x).astype(np.complex128) for x in (past, now)]
  expected = np.linalg.norm(wide[1] - wide[0]) / np.linalg.norm(wide[0])
  assert diff.relative_change(past, now) == pytest.approx(expected)
  assert diff.relative_change(past, past) == 0.0


def test_what_has_no_change():
  one = np.ones(3)
  assert math.isnan(diff.relative_change(one, one * np.nan))
  for before, after in ((one, np.ones(4)), (np.zeros(3), one), (one, None), (one, one * np.inf)):
    assert diff.relative_change(before, after) is None
  assert diff.relative_change(np.zeros(3), np.zeros(3)) == 0.0


def test_large_layers_are_not_copied_in_double_precision():
  dense = np.ones((2048, 4096), jnp.bfloat16)
  tracemalloc.start()
  assert diff.relative_change(dense, dense) == 0.0
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 3 * dense.nbytes  # 16 MiB; in complex numbers it would be eight times as much
