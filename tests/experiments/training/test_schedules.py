"""The compiled step: its learning rate."""

import numpy as np

from experiments.training import schedules


def test_cosine_is_half_a_wave():
  rates = [float(schedules.cosine(s, 10, 1e-3, 1e-7)) for s in (0, 5, 10, 12)]
  np.testing.assert_allclose(rates, [1e-3, (1e-3 + 1e-7) / 2, 1e-7, 1e-7], rtol=1e-4)
