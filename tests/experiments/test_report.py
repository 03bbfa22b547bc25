"""The report: seeds, the front, and machines without git."""

import numpy as np

from experiments import report


def row(combo, seed, accuracy, reduction):
  return {"combo": combo, "seed": seed, "test_accuracy": accuracy, "val_accuracy": accuracy,
          "params": 10, "nonzero_params": 5, "nonzero_bytes": 20, "gzip_bytes": 30,
          "artifact_bytes": 40, "reduction": reduction, "seconds": 1.0, "artifact": "m.cjx"}


ROWS = [row("base", 0, 0.9, 0.1), row("q", 0, 0.8, 0.7), row("base", 1, 0.7, 0.1),
        row("q", 1, 0.8, 0.7)]


def test_means_and_sample_deviation_over_seeds():
  base, q = report.means(ROWS)
  assert base["test_accuracy"] == np.mean([0.9, 0.7]) and base["seeds"] == 2
  assert np.isclose(base["spread"], np.std([0.9, 0.7], ddof=1)) and q["spread"] == 0
  assert report.means(ROWS[:1])[0]["spread"] is None


def test_no_git_is_no_error(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  assert report.environment()["commit"] is None


def test_the_table_and_picture_are_made(tmp_path, capsys):
  report.table(ROWS)
  assert "mean ± standard deviation over 2 seeds" in capsys.readouterr().out
  report.pareto(ROWS, tmp_path / "p.png")
  assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
