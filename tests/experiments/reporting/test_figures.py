"""Pictures: the front of a study."""

from experiments.reporting import figures
from tests.experiments.reporting.test_page import ROWS


def test_the_picture_is_made(tmp_path):
  figures.pareto(ROWS, tmp_path / "p.png")
  assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
