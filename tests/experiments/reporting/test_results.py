"""Results: means over seeds, the table in the terminal, and machines without git."""

import numpy as np

from experiments.reporting import results
from tests.experiments.reporting.test_page import ROWS


def test_means_and_sample_deviation_over_seeds():
  base, q = results.means(ROWS)
  assert base["test_accuracy"] == np.mean([0.9, 0.7]) and base["seeds"] == 2
  assert np.isclose(base["spread"], np.std([0.9, 0.7], ddof=1)) and q["spread"] == 0
  assert results.means(ROWS[:1])[0]["spread"] is None


def test_no_git_is_no_error(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  assert results.environment()["commit"] is None


def test_the_table_is_printed(capsys):
  results.print_sizes(ROWS)
  assert "mean ± standard deviation over 2 seeds" in capsys.readouterr().out


def test_what_fewer_seeds_have_is_not_passed_off_as_a_mean_of_all(capsys):
  results.print_sizes(ROWS[:3])
  assert "mean ± standard deviation over 2 seeds (q: 1)" in capsys.readouterr().out
