"""Results: the table in the terminal, and machines without git."""

from experiments.reporting import results
from tests.experiments.reporting.test_page import ROWS


def test_no_git_is_no_error(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  assert results.environment()["commit"] is None


def test_the_table_is_printed(capsys):
  results.print_sizes(ROWS)
  assert "mean ± standard deviation over 2 seeds" in capsys.readouterr().out


def test_what_fewer_seeds_have_is_not_passed_off_as_a_mean_of_all(capsys):
  results.print_sizes(ROWS[:3])
  assert "mean ± standard deviation over 2 seeds (q: 1)" in capsys.readouterr().out
