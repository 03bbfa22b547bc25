"""Learning rates: their ends, and what they do between them."""

import numpy as np
import pytest

from experiments.training import schedules

NUMBERS = {"steps": 10, "first": 1e-3, "last": 1e-7, "warmup": 0.2}


def test_cosine_is_half_a_wave():
  rates = [float(schedules.cosine(s, 10, 1e-3, 1e-7)) for s in (0, 5, 10, 12)]
  np.testing.assert_allclose(rates, [1e-3, (1e-3 + 1e-7) / 2, 1e-7, 1e-7], rtol=1e-4)


@pytest.mark.parametrize("kind,rates", [
    ("linear", [1e-3, 5.0005e-4, 1e-7, 1e-7]), ("constant", [1e-3] * 4),
    ("one_cycle", [1e-7, 6.25e-4, 1e-7, 1e-7])])
def test_the_ends_are_what_is_asked_for(kind, rates):
  found = [float(schedules.rate(kind, s, NUMBERS)) for s in (0, 5, 10, 12)]
  np.testing.assert_allclose(found, rates, rtol=1e-3)


def test_one_cycle_without_warmup_starts_at_the_top():
  assert float(schedules.one_cycle(0, 10, 1.0, 0.0, 0.0)) == 1
