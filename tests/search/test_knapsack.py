"""Sums over layers, against all of them; fronts, against their definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_jax.search import cheapest, front

ROWS = st.lists(st.lists(st.tuples(st.integers(-5, 30), st.integers(-5, 30)), min_size=1,
                         max_size=5), min_size=1, max_size=4)


@given(ROWS)
def test_every_budget_gets_the_least_loss_there_is(rows):
  losses = [[a for a, _ in row] for row in rows]
  costs = [[b for _, b in row] for row in rows]
  plans, cost, loss = cheapest(losses, costs)
  sums = [np.array([sum(row[i] for row, i in zip(of, plan, strict=True)) for plan in plans])
          for of in (costs, losses)]
  np.testing.assert_array_equal(cost, sums[0])
  np.testing.assert_array_equal(loss, sums[1])
  assert (np.diff(cost) > 0).all() and (np.diff(loss) < 0).all()
  for plan in itertools.product(*(range(len(row)) for row in rows)):
    c, x = (sum(row[i] for row, i in zip(of, plan, strict=True)) for of in (costs, losses))
    assert loss[cost <= c].min() <= x


def test_few_states_are_near_the_best():
  rng = np.random.default_rng(0)
  losses, costs = rng.exponential(size=(12, 8)), rng.exponential(size=(12, 8))
  _, cost, loss = cheapest(losses, costs)
  _, some_cost, some_loss = cheapest(losses, costs, states=128)
  assert len(some_cost) <= 128
  for budget in np.quantile(cost, [0.2, 0.5, 0.8]):
    assert some_loss[some_cost <= budget].min() <= 1.1 * loss[cost <= budget].min() + 0.05


@pytest.mark.parametrize("arguments,message", [
    ({"losses": [[0, float("nan")], [0, 3]]}, "losses holds infinities or NaN"),
    ({"costs": [[1, float("inf")], [0, 3]]}, "costs holds infinities or NaN"),
    ({"states": 1}, "states=1: must be a whole number from 2")])
def test_what_cannot_be_added_up_is_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    cheapest(**{"losses": [[0, 1], [0, 3]], "costs": [[5, 1], [4, 2]], **arguments})


@pytest.mark.parametrize("losses,costs", [([], []), ([[1]], [[1, 2]]), ([[1], [2]], [[1]])])
def test_rows_must_match(losses, costs):
  with pytest.raises(ValueError, match="losses has rows of"):
    cheapest(losses, costs)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_the_front_is_whatever_nothing_dominates(rows):
  def beaten(i):
    return any(all(a <= b for a, b in zip(rows[j], rows[i], strict=True))
               and (rows[j] != rows[i] or j < i) for j in range(len(rows)) if j != i)
  found = front(rows)
  assert sorted(found) == [i for i in range(len(rows)) if not beaten(i)]
  assert [rows[i][0] for i in found] == sorted(rows[i][0] for i in found)
