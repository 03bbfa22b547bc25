"""Schedules against their polynomials, traced."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_jax.prune import schedules


@given(st.integers(0, 200), st.floats(0, 0.5), st.floats(0.5, 1))
def test_cubic_is_zhu_and_gupta(step, initial, final):
  t = min(max(step - 10, 0), 100) / 100
  expected = final + (initial - final) * (1 - t)**3
  got = jax.jit(schedules.cubic)(step, final, initial=initial, start=10, stop=110)
  assert float(got) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine, schedules.cubic])
def test_ends_are_exact_and_the_way_is_monotone(schedule):
  values = np.array([schedule(s, 0.9, initial=0.1, start=5, stop=25) for s in range(31)])
  np.testing.assert_allclose(values[:6], 0.1, atol=1e-6)
  np.testing.assert_allclose(values[25:], 0.9, atol=1e-6)
  assert (np.diff(values) >= -1e-7).all()


def test_a_schedule_that_starts_where_it_stops_jumps():
  for schedule in (schedules.linear, schedules.cosine, schedules.cubic):
    ends = [float(schedule(step, 0.5, start=10, stop=10)) for step in (9, 10, 11)]
    assert ends == [0.0, 0.5, 0.5]
