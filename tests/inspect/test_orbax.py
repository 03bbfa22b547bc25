"""Checkpoints that Orbax wrote without us: trees, items, steps, and damage."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState
from orbax.checkpoint import args

from compress_jax import inspect
from compress_jax.io import orbax_arrays

SMALL, LARGE = {"k": np.ones((4, 4), np.float32)}, {"k": np.ones((9, 9), np.float32)}


def managed(root, step=1, **items):
  """Saves items as a CheckpointManager does, and returns the step's folder."""
  with orbax.checkpoint.CheckpointManager(root) as manager:
    manager.save(step, args=args.Composite(**items))
  return root / str(step)


def test_a_bare_orbax_checkpoint(tmp_path):
  path = tmp_path / "bare"
  orbax_arrays.save(path, {"a": {"w": np.ones((3, 2), np.float32)},
                           "b": [np.zeros(2), np.arange(3)]})
  found = inspect.read(path)
  assert found.what == "orbax"
  assert [(x.path, x.shape, x.dtype) for x in found.leaves] == [
      ("a/w", (3, 2), "float32"), ("b/0", (2,), "float64"), ("b/1", (3,), "int64")]
  assert inspect.measured(found, inspect.tree_of(found)).totals["nonzero"] == 6
  assert not inspect.check(found).failures


def test_a_damaged_orbax_checkpoint(tmp_path):
  path = tmp_path / "bare"
  orbax_arrays.save(path, {"w": np.random.default_rng(0).normal(size=(64, 64))})
  largest = max(path.rglob("d/*"), key=lambda p: p.stat().st_size)
  largest.write_bytes(b"")
  found = inspect.read(path)
  assert found.leaves[0].shape == (64, 64)
  assert inspect.check(found).failures[0].startswith("w cannot be read")
  with pytest.raises(inspect.InspectError, match=str(path)):
    inspect.tree_of(found)


def test_a_checkpoint_manager_and_a_training_state(tmp_path):
  model = nn.Dense(3)
  params = model.init(jax.random.key(0), jnp.ones((1, 4)))["params"]
  state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))
  with orbax.checkpoint.CheckpointManager(tmp_path / "run") as manager:
    for step in (9, 10):
      manager.save(step, args=orbax.checkpoint.args.StandardSave(state))
  found = inspect.read(tmp_path / "run")
  assert found.what == "orbax" and found.name == "10" and found.metadata["steps"] == ["9", "10"]
  assert {leaf.path for leaf in found.leaves} >= {"params/kernel", "opt_state/0/mu/kernel", "step"}
  # Its moments take bytes, and are not parameters.
  assert found.totals["params"] == 4 * 3 + 3
  assert found.totals["dense_bytes"] > 3 * 4 * 15
  assert not inspect.check(found).failures


def test_each_item_is_shown_under_its_name(tmp_path):
  step = managed(tmp_path / "run", params=args.StandardSave(SMALL), ema=args.StandardSave(LARGE),
                 meta=args.JsonSave({"a": 1}))
  for path in (tmp_path / "run", step):
    found = inspect.read(path)
    assert {leaf.path: leaf.shape for leaf in found.leaves} == {
        "ema/k": (9, 9), "params/k": (4, 4)}
    assert found.metadata["without_arrays"] == ["meta"]
    params = inspect.tree_of(found)
    assert params["ema"]["k"].shape == (9, 9) and params["params"]["k"].sum() == 16
    assert not inspect.check(found).failures
  # An item's own folder holds nothing else.
  one = inspect.read(step / "ema")
  assert [(leaf.path, leaf.shape) for leaf in one.leaves] == [("k", (9, 9))]
  assert inspect.tree_of(one)["k"].shape == (9, 9)


def test_a_damaged_item_is_named(tmp_path):
  noise = {"k": np.random.default_rng(0).normal(size=(64, 64))}
  step = managed(tmp_path / "run", params=args.StandardSave(SMALL), ema=args.StandardSave(noise))
  max((step / "ema").rglob("d/*"), key=lambda p: p.stat().st_size).write_bytes(b"")
  (line,) = inspect.check(inspect.read(step)).failures
  assert line.startswith("ema/k cannot be read")


def test_arrays_are_read_one_by_one_only_where_some_cannot_be_read(tmp_path, monkeypatch):
  orbax_arrays.save(tmp_path / "bare", {f"l{i}": np.ones(2) for i in range(9)})
  monkeypatch.setattr(orbax_arrays, "load_each", lambda *_: pytest.fail("one by one"))
  assert not inspect.check(inspect.read(tmp_path / "bare")).failures


def test_numbers_have_their_own_types_and_texts_are_no_leaves(tmp_path):
  with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "odd", {"name": "resnet", "rate": 0.1, "n": 3, **SMALL})
  found = inspect.read(tmp_path / "odd")
  types = {leaf.path: leaf.dtype for leaf in found.leaves}
  assert types == {"k": "float32", "n": "int64", "rate": "float64"}
  read = inspect.measured(found, inspect.tree_of(found))
  assert {leaf.path: leaf.dtype for leaf in read.leaves} == types


def test_what_is_not_complete_is_no_step(tmp_path):
  root = tmp_path / "run"
  managed(root, default=args.StandardSave(SMALL))
  for name in ("3.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp-1718000000"):
    shutil.copytree(root / "1", root / name)
  found = inspect.read(root)
  assert (found.name, found.metadata["steps"]) == ("1", ["1"])
  shutil.rmtree(root / "1")
  for path in (root, root / "3.orbax-checkpoint-tmp"):
    with pytest.raises(inspect.InspectError, match=f"^{path}: .*interrupted"):
      inspect.read(path)


def test_several_models_are_no_steps(tmp_path):
  for name in ("resnet18", "vgg16"):
    orbax_arrays.save(tmp_path / name, SMALL)
  with pytest.raises(inspect.InspectError, match="must be one of them: resnet18, vgg16"):
    inspect.read(tmp_path)
