"""The joint study, small: both ways, equal epochs, what both promise."""

import runpy

import pytest

import compress_jax as cj
from experiments.studies import joint

pytestmark = pytest.mark.slow


def config(**changes):
  made = runpy.run_path("configs/joint.py")["get_config"]("digits,smoke").unlock()
  made.update(changes)
  return made.lock()


def test_both_ways_end_as_sparse_integers_after_as_many_epochs(tmp_path):
  rows = {r["combo"]: r for r in joint.run(config(), tmp_path)}
  assert list(rows) == list(joint.study.PARENTS)
  assert rows["joint"]["epochs"] == rows["kd+imp+q"]["epochs"] == 6
  for name in ("joint", "kd+imp+q"):
    params = cj.artifact.load(tmp_path / rows[name]["artifact"])[0]["params"]
    kernels = [x for path, x in cj.entries(params)[0] if path.endswith("kernel")]
    assert all(isinstance(k, cj.Quantized) and k.bits == 8 for k in kernels)
    zeros = sum(int((cj.dense(k) == 0).sum()) for k in kernels)
    assert zeros >= 0.77 * sum(k.size for k in kernels) - len(kernels)
  assert rows["kd+imp+q"]["artifact_bytes"] < rows["kd+imp"]["artifact_bytes"]
  text = (tmp_path / "tables.md").read_text()
  assert "| joint | 6 |" in text and "| kd+imp+q | 6 |" in text
  again = joint.run(config(), tmp_path)
  assert [{k: v for k, v in r.items() if k != "seconds"} for r in again] == [
      {k: v for k, v in r.items() if k != "seconds"} for r in rows.values()]


@pytest.mark.parametrize("changes,message", [
    ({"sparsity": 1.0}, "config.sparsity=1.0: must be a number from 0 to 0.999"),
    ({"bits": 16}, "config.bits=16: must be a whole number from 2 to 8")])
def test_bad_configurations_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    joint.config.check(config(**changes))
