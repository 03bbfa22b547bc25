"""Results: the table in the terminal, and machines without git."""

from types import SimpleNamespace

from experiments import environment
from experiments.reporting import results
from tests.experiments.reporting.test_page import ROWS


def test_no_git_is_no_error(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  assert environment.of_results()["commit"] is None


def test_stages_that_something_else_made_are_named():
  now = environment.of_results()
  made = [environment.of_stage(), {**environment.of_stage(), "jax": "0.9.9"}]
  result = lambda name, metrics: SimpleNamespace(metrics=metrics,
                                                 directory=SimpleNamespace(name=name))
  done = {"a": result("a", {"made_with": made[0]}), "b": result("b", {"made_with": made[1]}),
          "c": result("c", {})}  # of a release that did not say
  assert results._made_otherwise([SimpleNamespace(done=done)], now) == {"b": made[1]}


def test_the_table_is_printed(capsys):
  results.print_sizes(ROWS)
  assert "mean ± standard deviation over 2 seeds" in capsys.readouterr().out


def test_what_fewer_seeds_have_is_not_passed_off_as_a_mean_of_all(capsys):
  results.print_sizes(ROWS[:3])
  assert "mean ± standard deviation over 2 seeds (q: 1)" in capsys.readouterr().out
