"""Data parallelism without a flag: four devices train and predict what one does."""

import subprocess
import sys

import numpy as np
import pytest

from experiments.training import devices

PROGRAM = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np, pathlib
import compress_jax as cj
from experiments.training import evaluate, loop
from experiments.training.augment import Augment
from experiments.training.progress import Log
from experiments.training.optimizers import Optimizer
from experiments.training.recipe import Recipe
from tests.experiments.training.test_loop import MODEL, toy

folder, data = pathlib.Path(sys.argv[2]), toy()
recipe = Recipe(epochs=2, batch_size=8, learning_rate=5e-3, l2=1e-4,
                augment=Augment(crop=1, flip=True))
if sys.argv[3] == "muon":
  recipe = Recipe(epochs=2, batch_size=8, learning_rate=5e-3, ema=0.9, label_smoothing=0.1,
                  optimizer=Optimizer(kind="muon", rest="sgd", weight_decay=1e-3),
                  augment=Augment(crop=1, pad="reflect", flip=True, alternating=True, mixup=0.2))
start = loop.initial(MODEL, data.train.shape, 0)
start["params"] = cj.prune.magnitude(start["params"], 0.5)
fit = loop.fit(MODEL, start, data, recipe, directory=folder / "work",
               log=Log("t", folder / "log.txt"))
trainer = loop._Trainer(MODEL, data, recipe, None)
devices = {len(x.sharding.device_set) for x in jax.tree.leaves(
    next(trainer.feed.calls(trainer._order(0)))[2]) if isinstance(x, jax.Array)}
assert devices == {int(sys.argv[1])}, devices
first = next(trainer.feed.calls(trainer._order(0)))[2]["order"].addressable_shards[0].data
assert first.shape[1] == 8 // int(sys.argv[1])  # a part of every batch, not all of it
logits = evaluate.logits(MODEL, fit.variables, data.test)
weights = [np.asarray(x) for x in jax.tree.leaves(fit.variables)]
np.savez(folder / "out.npz", logits, *weights)
"""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_four_devices_train_what_one_does(optimizer, tmp_path):
  outs = []
  for count in (1, 4):
    folder = tmp_path / str(count)
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(count), str(folder),
                           optimizer],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outs.append(np.load(folder / "out.npz"))
  assert len(outs[0].files) == len(outs[1].files) > 10
  for name in outs[0].files:
    np.testing.assert_allclose(outs[0][name], outs[1][name], rtol=2e-3, atol=2e-3)


def test_a_batch_that_no_two_devices_divide_uses_one():
  assert devices.mesh(7) is None
