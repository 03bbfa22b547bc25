"""Results over seeds: means, and deviations of a sample."""

import numpy as np

from experiments.reporting import over_seeds
from tests.experiments.reporting.test_page import ROWS


def test_means_and_sample_deviation_over_seeds():
  base, q = over_seeds.means(ROWS)
  assert base["test_accuracy"] == np.mean([0.9, 0.7]) and base["seeds"] == 2
  assert np.isclose(base["spread"], np.std([0.9, 0.7], ddof=1)) and q["spread"] == 0
  assert over_seeds.means(ROWS[:1])[0]["spread"] is None


def test_what_is_the_same_for_all_seeds_stays_so_to_the_last_bit():
  rows = [{"combo": "cell", "sparsity": 0.95, "test_accuracy": 0.1 * seed, "val_accuracy": 0.5}
          for seed in range(3)]
  assert over_seeds.means(rows)[0]["sparsity"] == 0.95 != np.mean([0.95] * 3)
