"""Distillation, gradual pruning and quantization-aware training in one compiled step."""

import dataclasses

import jax
import numpy as np
import pytest

import compress_jax as cj
from experiments.training import loop, techniques
from experiments.training import step as step_lib
from experiments.training.augment import Augment
from experiments.training.optimizers import Optimizer
from experiments.training.progress import Log
from experiments.training.recipe import Joint, Recipe, Teacher
from tests.experiments.training.test_loop import toy

pytestmark = pytest.mark.slow
NAME, ARGUMENTS = "convnet", {"widths": (4, 4, 4), "hidden": (8, 8)}
RECIPE = Recipe(epochs=10, batch_size=8, learning_rate=5e-3, augment=Augment(crop=1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  path = tmp_path_factory.mktemp("teacher")
  return techniques.teach(NAME, ARGUMENTS, toy(), RECIPE, path, Log("teach", path / "log.txt"))[0]


@pytest.mark.parametrize("sparsity,bits", [(0.8, 4), (0.5, 8)])
def test_one_training_prunes_quantizes_and_distils(sparsity, bits, teacher, tmp_path):
  recipe = dataclasses.replace(RECIPE, epochs=20, joint=Joint(sparsity=sparsity, bits=bits,
                                                               every=4))
  student, details = techniques.joint(teacher, NAME, ARGUMENTS, toy(), recipe, tmp_path,
                                      Log("joint", tmp_path / "log.txt"), temperature=3.0,
                                      alpha=0.5, images=32)
  total, nonzero = cj.count(student.variables["params"])
  kernels = sum(x.size for _, x in cj.entries(student.variables["params"])[0] if cj.is_leaf(x))
  assert total - nonzero >= round(sparsity * kernels)
  assert all(x.bits == bits and isinstance(x, cj.Quantized)
             for _, x in cj.entries(student.variables["params"])[0] if cj.is_leaf(x))
  assert details["predictions_differ"] == 0
  assert student.accuracy(toy().test) > 0.8
  # The other cell of the grid used the same program. Private: JAX has no public count of them.
  program = step_lib.steps_program(student.model, recipe.augment, True, True, "cubic")
  assert program._cache_size() == 1


@pytest.mark.parametrize("every,stop,epochs", [(100, 0.6, 6), (10, 1.0, 5), (7, 0.0, 5)])
def test_the_sparsity_is_reached_whatever_the_steps_are(every, stop, epochs, teacher, tmp_path):
  joint = Joint(sparsity=0.77, bits=8, every=every, stop=stop, start=0.0)
  recipe = dataclasses.replace(RECIPE, epochs=epochs, steps_per_epoch=2, joint=joint)
  student, _ = techniques.joint(teacher, NAME, ARGUMENTS, toy(), recipe, tmp_path,
                                Log("joint", tmp_path / "log.txt"), temperature=3.0, alpha=0.5,
                                images=32)
  total, nonzero = cj.count(student.variables["params"])
  kernels = sum(x.size for _, x in cj.entries(student.variables["params"])[0] if cj.is_leaf(x))
  assert total - nonzero >= round(0.77 * kernels)


def test_muon_and_averages_prune_and_quantize_as_well(teacher, tmp_path):
  recipe = dataclasses.replace(
      RECIPE, epochs=20, joint=Joint(sparsity=0.5, bits=8, every=4), ema=0.8, label_smoothing=0.1,
      optimizer=Optimizer(kind="muon", weight_decay=1e-3), learning_rate=0.02)
  student, details = techniques.joint(teacher, NAME, ARGUMENTS, toy(), recipe, tmp_path,
                                      Log("joint", tmp_path / "log.txt"), temperature=3.0,
                                      alpha=0.5, images=32)
  total, nonzero = cj.count(student.variables["params"])
  kernels = sum(x.size for _, x in cj.entries(student.variables["params"])[0] if cj.is_leaf(x))
  assert total - nonzero >= round(0.5 * kernels)
  assert details["predictions_differ"] == 0
  assert student.accuracy(toy().test) > 0.8


def test_the_state_keeps_its_shape_from_step_to_step(teacher):
  recipe = dataclasses.replace(RECIPE, joint=Joint(sparsity=0.5, bits=4))
  variables = loop.initial(teacher.model, toy().train.shape, 0)
  params = cj.quantize.dynamic(cj.quantize.affine(cj.prune.magnitude(variables["params"], 0.0), 4))
  state = loop.start_state({**variables, "params": params})
  guide = Teacher(model=teacher.model, variables=cj.dense(teacher.variables),
                  temperature=3.0, alpha=0.5)
  describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  before, structure = describe(state), jax.tree.structure(state)
  trainer = loop._Trainer(teacher.model, toy(), recipe, guide)
  state, _ = trainer.epoch(state, 0, "")
  assert jax.tree.structure(state) == structure and describe(state) == before
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state["trainable"]))
