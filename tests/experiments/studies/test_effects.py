"""Effects of techniques, on designs whose effects are known."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.studies.combo import effects

SIXTEEN = [names for n in range(5) for names in itertools.combinations(effects.TECHNIQUES, n)]
PAIRS = list(itertools.combinations(effects.TECHNIQUES, 2))
NUMBERS = st.floats(-5, 5)


def rows_of(accuracy, seeds=(0,)):
  return [{"combo": "+".join(names) or "base", "seed": seed, "artifact_bytes": 1000,
           "test_accuracy": accuracy(names, seed) / 100} for names in SIXTEEN for seed in seeds]


@given(st.lists(NUMBERS, min_size=4, max_size=4), NUMBERS, NUMBERS)
def test_what_was_put_in_comes_out(single, joint, level):
  add = dict(zip(effects.TECHNIQUES, single, strict=True))
  both = {"imp", "q"}
  found = {frozenset(names): level + sum(add[n] for n in names) + joint * (both <= set(names))
           for names in SIXTEEN}
  for name in effects.TECHNIQUES:
    # Half of the combinations that have one of the two have the other.
    expected = add[name] + joint / 2 * (name in both)
    assert effects.effect(found, [name], float) == pytest.approx(expected, abs=1e-9)
  for pair in PAIRS:
    expected = joint * (set(pair) == both)
    assert effects.effect(found, pair, float) == pytest.approx(expected, abs=1e-9)


def test_the_table_has_a_line_for_every_technique_and_pair():
  text = effects.text(rows_of(lambda names, seed: 90 - 2 * ("kd" in names)))
  assert "| kd | -2.00 | +0.00 |" in text and "| imp × q | " in text
  assert text.count("\n| ") == 1 + 4 + len(PAIRS)
  with_seeds = effects.text(rows_of(lambda names, seed: 90 - (1 + seed) * ("kd" in names), (0, 2)))
  assert "| kd | -2.00 ± 1.41 |" in with_seeds


def test_no_table_without_all_sixteen():
  assert effects.text(rows_of(lambda names, seed: 90.0)[:-1]) == ""
