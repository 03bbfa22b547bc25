"""`cj.optimize`: the training step that people already have, on trees with compressed leaves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

import compress_jax as cj

X = jax.random.normal(jax.random.key(0), (16, 8))
Y = jnp.tanh(X @ jax.random.normal(jax.random.key(1), (8, 4)))


def compressed(params):
  return cj.quantize.affine(cj.prune.magnitude(params, 0.5), bits=8)


def model():
  dense = nn.Dense(4)
  return dense, compressed(dense.init(jax.random.key(2), X)["params"])


def by_hand(apply, params, tx, steps):
  """Trains with partition and merge in the step itself."""
  trains, rest = cj.partition(params)
  state = tx.init(trains)
  for _ in range(steps):
    loss = lambda trains: ((apply(cj.dense(cj.merge(trains, rest))) - Y) ** 2).mean()
    updates, state = tx.update(jax.grad(loss)(trains), state, trains)
    trains = optax.apply_updates(trains, updates)
  return cj.merge(trains, rest)


def test_a_train_state_trains_what_partition_and_merge_do():
  dense, params = model()
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))
  expected = by_hand(lambda p: dense.apply({"params": p}, X), params, tx, 3)
  state = TrainState.create(apply_fn=dense.apply, params=params, tx=cj.optimize(tx))

  @jax.jit
  def step(state):
    loss = lambda p: ((state.apply_fn({"params": cj.dense(p)}, X) - Y) ** 2).mean()
    value, grads = jax.value_and_grad(loss, allow_int=True)(state.params)
    return state.apply_gradients(grads=grads), value

  losses = []
  for _ in range(3):
    state, value = step(state)
    losses.append(float(value))
  assert losses[2] < losses[0]
  assert jax.tree.structure(state.params) == jax.tree.structure(params)
  for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, atol=1e-6)
  np.testing.assert_array_equal(state.params["kernel"].weight_mask(),
                                params["kernel"].weight_mask())


def test_in_a_chain_and_only_what_is_said_trains():
  dense, params = model()
  tx = optax.chain(cj.optimize(optax.adam(0.1), trainable="bias"), optax.scale(0.5))
  loss = lambda p: ((dense.apply({"params": cj.dense(p)}, X) - Y) ** 2).mean()
  updates, _ = tx.update(jax.grad(loss, allow_int=True)(params), tx.init(params), params)
  new = optax.apply_updates(params, updates)
  assert (new["bias"] != params["bias"]).all()
  np.testing.assert_array_equal(cj.dense(new)["kernel"], cj.dense(params)["kernel"])


def test_equinox_trains_with_its_own_gradients():
  linear = compressed(eqx.nn.MLP(8, 4, 16, 1, key=jax.random.key(3)))
  tx = cj.optimize(optax.adam(0.01))

  @eqx.filter_jit
  def step(linear, state):
    loss = lambda m: ((jax.vmap(cj.dense(m))(X) - Y) ** 2).mean()
    value, grads = eqx.filter_value_and_grad(loss)(linear)
    updates, state = tx.update(grads, state, linear)
    return eqx.apply_updates(linear, updates), state, value

  state, losses, start = tx.init(linear), [], linear
  for _ in range(20):
    linear, state, value = step(linear, state)
    losses.append(float(value))
  assert losses[-1] < 0.9 * losses[0]
  np.testing.assert_array_equal(linear.layers[0].weight.weight_mask(),
                                start.layers[0].weight.weight_mask())


def test_nnx_trains_the_state_that_it_is_split_into():
  graph, params = nnx.split(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), nnx.Param)
  params = compressed(nnx.to_pure_dict(params))
  tx = cj.optimize(optax.sgd(0.1))

  def loss(params):
    state = nnx.State(jax.tree.map(nnx.Param, cj.dense(params)))
    return ((nnx.merge(graph, state)(X) - Y) ** 2).mean()

  before = loss(params)
  updates, _ = tx.update(jax.grad(loss, allow_int=True)(params), tx.init(params), params)
  assert loss(optax.apply_updates(params, updates)) < before


def test_without_parameters_it_says_what_it_needs():
  _, params = model()
  tx = cj.optimize(optax.sgd(0.1))
  with pytest.raises(ValueError, match="params=None: must be the parameters"):
    tx.update(params, tx.init(params))


def test_a_model_with_dropout_trains_its_weights_and_keeps_its_keys():
  dropping = nnx.Sequential(nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)),
                            nnx.Linear(16, 4, rngs=nnx.Rngs(2)))
  graph, state = nnx.split(dropping)
  params, tx = compressed(state), cj.optimize(optax.adam(0.01))

  def loss(params):
    return ((nnx.merge(graph, cj.dense(params))(X) - Y) ** 2).mean()

  def step(params, state):
    value, grads = jax.value_and_grad(loss, allow_int=True)(params)
    updates, state = tx.update(grads, state, params)
    return cj.apply_updates(params, updates), state, value

  keys = [x for x in jax.tree.leaves(params) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
  assert keys
  eager, compiled = step(params, tx.init(params)), jax.jit(step)(params, tx.init(params))
  for after in (eager[0], compiled[0]):
    assert jax.tree.structure(after) == jax.tree.structure(params)
    kept = [x for x in jax.tree.leaves(after) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    assert all((a == b).all() for a, b in zip(keys, kept, strict=True))
  state, losses = tx.init(params), []
  for _ in range(20):
    params, state, value = jax.jit(step)(params, state)
    losses.append(float(value))
  assert losses[-1] < losses[0]


def test_python_numbers_get_no_update():
  params = {"w": jnp.eye(2), "rate": 0.5}
  tx = cj.optimize(optax.sgd(0.1))
  updates, _ = tx.update({"w": jnp.ones((2, 2)), "rate": 1.0}, tx.init(params), params)
  assert updates["rate"] is None and cj.apply_updates(params, updates)["rate"] == 0.5
