"""Averages of weights: what they are, and that grids span them."""

import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments.training import averages


def test_the_average_of_what_does_not_change_is_that():
  state = {"trainable": {"w": jnp.ones(2)}, "stats": {}}
  average = averages.start(state)
  for at in range(3):
    average = averages.step(average, state, 0.9, at)
  np.testing.assert_allclose(average["trainable"]["w"], 1)


def test_the_first_steps_forget_where_training_started():
  past, now = ({"trainable": {"w": jnp.full(1, x)}, "stats": {}} for x in (0.0, 1.0))
  assert float(averages.step(past, now, 0.999, 0)["trainable"]["w"][0]) == np.float32(0.9)


def test_masks_stay_and_grids_span_the_average():
  params = cj.quantize.affine(cj.prune.magnitude({"w": jnp.array([[1.0, -4.0, 2.0]])}, 0.3), 4)
  trainable, rest = cj.partition(params)
  state = {"trainable": trainable, "rest": rest, "stats": {}}
  state["average"] = {"trainable": cj.partition(cj.tree.transform(
      params, None, lambda path, x: x.with_value(x.unrounded().dense() / 2)))[0], "stats": {}}
  parts = averages.result(state, refit=True)
  dense = cj.dense(cj.merge(parts["trainable"], parts["rest"]))["w"]
  np.testing.assert_allclose(dense, [[0.0, -2.0, 1.0]], atol=0.2)
