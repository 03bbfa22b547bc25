"""What is done at one place comes in order, and one place does not wait for another."""

import threading

import jax.numpy as jnp
import pytest

import compress_jax as cj
from compress_jax.io import orbax_arrays
from compress_jax.io.turns import Turns


@pytest.fixture
def slow(monkeypatch):
  """Lets the arrays that are written first be the last on disk: when this event is set."""
  go, waits, result = threading.Event(), [True], orbax_arrays.Writing.result

  def delayed(self):
    if waits and waits.pop():
      assert go.wait(20)
    result(self)
  monkeypatch.setattr(orbax_arrays.Writing, "result", delayed)
  return go


def test_the_last_of_two_saves_in_the_background_counts(tmp_path, slow):
  path = tmp_path / "step"
  first = cj.checkpoint.save_async(path, {"w": jnp.zeros(2)}, n=1)
  second = cj.checkpoint.save_async(path, {"w": jnp.ones(3)}, n=2)
  threading.Timer(0.2, slow.set).start()
  second.result()
  assert first.done()
  first.result()
  assert cj.checkpoint.load(path)[1] == {"n": 2}
  assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_a_save_in_front_waits_for_those_in_the_background(tmp_path, slow):
  path = tmp_path / "step"
  first = cj.checkpoint.save_async(path, {"w": jnp.zeros(2)}, n=1)
  cj.checkpoint.save(tmp_path / "elsewhere", {"w": jnp.ones(3)})  # another path does not wait
  assert not first.done()
  threading.Timer(0.2, slow.set).start()
  cj.checkpoint.save(path, {"w": jnp.ones(3)}, n=2)
  first.result()
  assert cj.checkpoint.load(path)[1] == {"n": 2}


def test_many_saves_to_one_path_all_succeed(tmp_path):
  path = tmp_path / "step"
  saving = [cj.checkpoint.save_async(path, {"w": jnp.full(n + 1, n)}, n=n) for n in range(8)]
  for one in saving:
    one.result()
  assert cj.checkpoint.load(path)[1] == {"n": 7}
  assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_a_save_after_one_that_failed_succeeds(tmp_path, monkeypatch):
  path = tmp_path / "step"
  write, fails = orbax_arrays.Writing.result, [True]

  def failing(self):
    if fails and fails.pop():
      raise OSError("no such disk")
    write(self)
  monkeypatch.setattr(orbax_arrays.Writing, "result", failing)
  first = cj.checkpoint.save_async(path, {"w": jnp.zeros(2)}, n=1)
  with pytest.raises(OSError, match="no such disk"):
    first.result()
  cj.checkpoint.save(path, {"w": jnp.ones(2)}, n=2)
  assert cj.checkpoint.load(path)[1] == {"n": 2}


def test_turns_come_in_the_order_in_which_they_were_taken():
  turns, order = Turns(), []
  taken = [turns.take("door") for _ in range(6)]

  def go(number):
    with turns.waited("door", taken[number]):
      order.append(number)
  threads = [threading.Thread(target=go, args=(number,)) for number in (5, 3, 1, 2, 0)]
  for thread in threads:
    thread.start()
  turns.leave("door", taken[4])  # given up before it came
  for thread in threads:
    thread.join(10)
  assert order == [0, 1, 2, 3, 5]


def test_a_place_that_nobody_waits_at_is_forgotten():
  turns = Turns()
  with pytest.raises(KeyError), turns.waited("door", turns.take("door")):
    raise KeyError
  assert not turns._lines
