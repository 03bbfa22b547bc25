"""Four devices train and predict what one does: data parallel, and with parameters in parts."""

import subprocess
import sys

import numpy as np
import pytest

from experiments.training import devices

PROGRAM = """
import collections, dataclasses, sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np, pathlib
import compress_jax as cj
from experiments.training import devices, evaluate, kept, loop
from experiments.training.augment import Augment
from experiments.training.progress import Log
from experiments.training.optimizers import Optimizer
from experiments.training.recipe import Recipe
from tests.experiments.training.test_loop import MODEL, toy

folder, data = pathlib.Path(sys.argv[2]), toy()
recipe = Recipe(epochs=2, batch_size=8, learning_rate=5e-3, l2=1e-4,
                augment=Augment(crop=1, flip=True))
fsdp = int(sys.argv[4])
if sys.argv[3] == "muon":
  recipe = Recipe(epochs=2, batch_size=8, learning_rate=5e-3, ema=0.9, label_smoothing=0.1,
                  optimizer=Optimizer(kind="muon", rest="sgd", weight_decay=1e-3),
                  augment=Augment(crop=1, pad="reflect", flip=True, alternating=True, mixup=0.2))
recipe = dataclasses.replace(recipe, fsdp=fsdp)
start = loop.initial(MODEL, data.train.shape, 0)
start["params"] = cj.prune.magnitude(start["params"], 0.5)
devices._FEW = 64  # the model is tiny
parts = collections.Counter()

class Keeper(kept.Keeper):
  def keep(self, state, history):
    for x in jax.tree.leaves(state["state"]["trainable"]):
      parts[x.size // x.addressable_shards[0].data.size, x.size >= 64] += 1
    super().keep(state, history)

kept.Keeper = Keeper
fit = loop.fit(MODEL, start, data, recipe, directory=folder / "work",
               log=Log("t", folder / "log.txt"))
# After training still: every long array is in as many parts as share it, the short ones whole.
assert set(parts) == {(fsdp, True), (1, False)}, parts
trainer = loop._Trainer(MODEL, data, recipe, None)
used = {len(x.sharding.device_set) for x in jax.tree.leaves(
    next(trainer.feed.calls(trainer._order(0)))[2]) if isinstance(x, jax.Array)}
assert used == {int(sys.argv[1])}, used
first = next(trainer.feed.calls(trainer._order(0)))[2]["order"].addressable_shards[0].data
assert first.shape[1] == 8 // int(sys.argv[1])  # a part of every batch, not all of it
logits = evaluate.logits(MODEL, fit.variables, data.test)
weights = [np.asarray(x) for x in jax.tree.leaves(fit.variables)]
np.savez(folder / "out.npz", logits, *weights)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "groups"), [("adam", [2]), ("muon", [1, 4])])
def test_four_devices_train_what_one_does(optimizer, groups, tmp_path):
  alone = trained(tmp_path, 1, optimizer, 1)
  for fsdp in groups:
    together = trained(tmp_path, 4, optimizer, fsdp)
    assert len(alone.files) == len(together.files) > 10
    for name in alone.files:
      np.testing.assert_allclose(alone[name], together[name], rtol=2e-3, atol=2e-3)


def trained(tmp_path, count, optimizer, fsdp):
  """Returns logits and weights after a training on so many devices."""
  folder = tmp_path / f"{count}-{fsdp}"
  folder.mkdir()
  done = subprocess.run([sys.executable, "-c", PROGRAM, str(count), str(folder), optimizer,
                         str(fsdp)], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return np.load(folder / "out.npz")


def test_groups_must_divide_the_devices():
  with pytest.raises(ValueError, match=r"mesh\.fsdp=3: must divide 1, the devices"):
    devices.mesh(7, fsdp=3)


def test_a_batch_that_no_two_devices_divide_uses_one():
  assert devices.mesh(7) is None
