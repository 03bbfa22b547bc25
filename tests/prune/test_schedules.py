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
  traced = lambda step, final, initial: schedules.cubic(final, initial=initial, start=10,
                                                        stop=110)(step)
  got = jax.jit(traced)(step, final, initial)
  assert float(got) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine, schedules.cubic])
def test_ends_are_exact_and_the_way_is_monotone(schedule):
  values = np.array(list(map(schedule(0.9, initial=0.1, start=5, stop=25), range(31))))
  np.testing.assert_allclose(values[:6], 0.1, atol=1e-6)
  np.testing.assert_array_equal(values[25:], np.float32(0.9))
  assert (np.diff(values) >= -1e-7).all()


def test_a_schedule_that_starts_where_it_stops_jumps():
  for schedule in (schedules.linear, schedules.cosine, schedules.cubic):
    ends = list(map(float, map(schedule(0.5, start=10, stop=10), (9, 10, 11))))
    assert ends == [0.0, 0.5, 0.5]


def test_optax_s_schedules_are_of_the_same_kind():
  import optax
  schedule = optax.linear_schedule(0.0, 0.5, 10)
  steps = range(12)
  np.testing.assert_allclose(list(map(schedules.linear(0.5, stop=10), steps)),
                             list(map(schedule, steps)), atol=1e-6)
