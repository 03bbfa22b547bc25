"""Simulated workers: between the bounds that scheduling has, and as hand-made cases say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import simulate
from experiments.simulate import Task


@st.composite
def trees(draw):
  """Tasks, each of which needs up to two of those in front of it."""
  tasks = []
  for i in range(draw(st.integers(1, 12))):
    needs = draw(st.sets(st.sampled_from([task.name for task in tasks]), max_size=2)) if i else ()
    tasks.append(Task(name=f"t{i}", seconds=draw(st.integers(1, 20)), needs=tuple(needs),
                      size=100))
  return tasks


@given(trees(), st.integers(1, 6))
def test_times_are_within_grahams_bounds(tasks, workers):
  total = sum(task.seconds for task in tasks)
  longest = sum(task.seconds for task in simulate.critical_path(tasks))
  outcome = simulate.schedule(tasks, workers)
  assert max(longest, total / workers) <= outcome.seconds
  assert outcome.seconds <= total / workers + longest * (workers - 1) / workers + 1e-9
  assert outcome.idle == pytest.approx(workers * outcome.seconds - total)
  assert simulate.schedule(tasks, 1).seconds == total
  assert simulate.schedule(tasks, len(tasks)).seconds == longest


def test_seeds_are_trees_of_their_own():
  tasks = simulate.copies([Task(name="base", seconds=4), Task(name="q", seconds=1,
                                                              needs=("base",))], 3)
  assert [simulate.schedule(tasks, n).seconds for n in (1, 3, 6)] == [15, 5, 5]
  text = simulate.table(tasks, (1, 3))
  assert "| 1 | 15 s | 1.0 | 100 | 0.0 | 0 |" in text and "| 3 | 5 s | 3.0 |" in text
