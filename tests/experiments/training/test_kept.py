"""What is kept of a training: always one whole epoch, the latest, whatever happens meanwhile."""

import contextlib
import resource

import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from experiments.training import kept

START = {"w": jnp.zeros(3), "step": jnp.int32(0)}


def after(epoch):
  return {"w": jnp.full(3, 0.5 + epoch), "step": jnp.int32(epoch)}


def history(epoch):
  return [{"loss": 1 / (n + 1)} for n in range(epoch)]


def train(directory, first, last):
  with kept.Keeper(directory) as keeper:
    for epoch in range(first, last + 1):
      keeper.keep(after(epoch), history(epoch))


def test_the_latest_epoch_is_kept_and_no_other(tmp_path):
  assert kept.count(tmp_path / "none") == 0 and kept.resume(tmp_path / "none", START) == (START, [])
  for first, last in ((1, 3), (4, 4)):
    train(tmp_path, first, last)
    state, known = kept.resume(tmp_path, START)
    np.testing.assert_array_equal(state["w"], after(last)["w"])
    assert known == history(last) and kept.count(tmp_path) == last
    assert [path.name for path in tmp_path.iterdir()] == [f"epoch-{last:04d}"]


def test_an_epoch_that_was_reached_meanwhile_by_another_process_stays(tmp_path):
  train(tmp_path, 1, 7)
  train(tmp_path, 3, 4)  # this one slept, and has been replaced
  assert kept.count(tmp_path) == 7
  np.testing.assert_array_equal(kept.resume(tmp_path, START)[0]["w"], after(7)["w"])


@contextlib.contextmanager
def files_of_at_most(size):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_epoch_before_stays_until_the_next_is_complete(tmp_path):
  train(tmp_path, 1, 1)
  with files_of_at_most(4), pytest.raises((OSError, ValueError), match="File too large"):
    train(tmp_path, 2, 2)
  state, known = kept.resume(tmp_path, START)
  np.testing.assert_array_equal(state["w"], after(1)["w"])
  assert known == history(1)


def test_what_is_damaged_says_what_to_remove(tmp_path):
  train(tmp_path, 1, 2)
  (tmp_path / "epoch-0002" / "manifest.json").write_text("{")
  with pytest.raises(cj.stages.DamagedStage, match=f"remove {tmp_path} to train from the start"):
    kept.resume(tmp_path, START)
