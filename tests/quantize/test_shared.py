"""k-means codebooks and learned steps against what their papers define."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

import compress_jax as cj


@given(st.integers(2, 6), st.integers(0, 20))
def test_centres_are_those_of_k_means(clusters, seed):
  w = np.random.default_rng(seed).normal(size=(8, 9)).astype(np.float32)
  leaf = cj.quantize.cluster({"w": jnp.asarray(w)}, clusters, iterations=100)["w"]
  start = np.linspace(w.min(), w.max(), clusters)[:, None]
  reference = KMeans(clusters, init=start, n_init=1, max_iter=100, tol=0).fit(w.reshape(-1, 1))
  np.testing.assert_allclose(np.sort(leaf.codebook), np.sort(reference.cluster_centers_[:, 0]),
                             atol=1e-4)


def test_pruned_weights_keep_an_exact_zero_while_the_codebook_trains():
  p = cj.quantize.cluster(cj.prune.magnitude({"w": jnp.arange(-8.0, 8).reshape(4, 4)}, 0.5), 4)
  zero = np.asarray(p["w"].dense()) == 0
  assert zero.sum() == 8
  moved = cj.Clustered(p["w"].codebook + 3, p["w"].index, zero=True)
  np.testing.assert_array_equal(np.asarray(moved.dense()) == 0, zero)
  grads = jax.grad(lambda leaf: leaf.dense().sum(), allow_int=True)(moved)
  counts = [float((np.asarray(p["w"].index) == i).sum()) for i in range(5)]
  assert grads.codebook.tolist() == [0.0, *counts[1:]]


def test_what_one_codebook_keeps_at_zero_the_next_one_does():
  p = cj.prune.magnitude({"w": jnp.asarray(np.random.default_rng(0).normal(size=(16, 16)))}, 0.5)
  twice = cj.quantize.cluster(cj.quantize.cluster(p, 8), 4)
  assert cj.count(twice)[1] == cj.count(p)[1]


def test_a_learned_step_starts_from_the_weights_that_are_left():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32)
  p = cj.prune.magnitude({"w": w}, 0.95)
  kept = np.abs(np.asarray(w))[np.asarray(p["w"].mask)]
  leaf = cj.quantize.learned(p, 4, axis=None)["w"]
  np.testing.assert_allclose(float(leaf.scale[0, 0]), 2 * kept.mean() / np.sqrt(7), rtol=1e-5)


def test_indices_take_the_bits_they_need():
  w = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32)}
  assert cj.size(cj.quantize.cluster(w, 16)).packed == 64 * 64 // 2 + 16 * 4
  assert cj.size(cj.quantize.cluster(w, 17)).packed == -(-64 * 64 * 5 // 8) + 17 * 4


def test_learned_steps_have_lsqs_start_and_gradient():
  v = jnp.array([[0.26], [-0.4], [1.27], [9.0]])
  leaf = cj.quantize.learned({"w": v}, 8)["w"]
  np.testing.assert_allclose(leaf.scale, 2 * np.abs(v).mean() / np.sqrt(127), rtol=1e-6)
  trainable, rest = cj.partition(leaf)
  grad = jax.grad(lambda t: cj.merge(t, rest).dense().sum())(trainable).scale
  ratio = np.asarray(v / leaf.scale)
  # Esser et al. 2020, equation 3, times 1 / sqrt(N Q).
  expected = np.where(np.abs(ratio) < 127, np.rint(ratio) - ratio, np.sign(ratio) * 127).sum()
  np.testing.assert_allclose(float(grad.sum()), expected / np.sqrt(4 * 127), rtol=1e-4, atol=1e-6)


def test_lsq_decides_what_is_clipped_before_rounding():
  # At 2 bits the largest code is 1: 1.2 and 1.4 steps are clipped, though they round to it.
  v = jnp.array([[0.3], [1.2], [1.4], [-1.3], [-0.6], [2.5]])
  leaf = cj.quantize.learned({"w": v}, 2)["w"].replace(scale=jnp.ones((1, 1)))
  trainable, rest = cj.partition(leaf)
  grads = jax.grad(lambda t: cj.merge(t, rest).dense().sum())(trainable)
  ratio = np.asarray(v)
  # Esser et al. 2020, equations 3 and 5.
  inside = np.abs(ratio) < 1
  expected = np.where(inside, np.rint(ratio) - ratio, np.sign(ratio)).sum() / np.sqrt(6 * 1)
  np.testing.assert_allclose(float(grads.scale.sum()), expected, rtol=1e-5)
  np.testing.assert_array_equal(grads.value, inside.astype(np.float32))


@pytest.mark.parametrize("clusters", [1, 257])
def test_bad_input_names_the_argument(clusters):
  with pytest.raises(ValueError, match=f"clusters={clusters}: must be from 2 to"):
    cj.quantize.cluster({"w": jnp.eye(2)}, clusters)


def test_a_mean_of_millions_of_weights_is_theirs():
  w = jnp.where(jnp.arange(2_400_000) % 2 == 0, 0.01, 0.03).reshape(600, -1)
  codebook = cj.quantize.cluster({"w": w}, 2, iterations=1)["w"].codebook
  np.testing.assert_allclose(codebook, [0.01, 0.03], rtol=1e-5)


def test_a_learned_step_of_half_precision_weights_is_finite():
  w = (0.1 * jax.random.normal(jax.random.key(0), (512, 512))).astype(jnp.float16)
  leaf = cj.quantize.learned({"w": w}, 4, axis=None)["w"]
  wanted = 2 * np.abs(np.asarray(w, np.float64)).mean() / np.sqrt(7)
  np.testing.assert_allclose(leaf.scale, wanted, rtol=1e-4)


def test_a_learned_step_comes_back_from_the_other_side_of_zero():
  apply = lambda params, x: x @ params["w"]
  x = jnp.abs(jax.random.normal(jax.random.key(0), (3, 8)))
  params = {"w": jax.random.normal(jax.random.key(1), (8, 6))}
  params = cj.quantize.calibrate(apply, cj.quantize.learned(params, 8), [x], learned=True)
  leaf = params["w"]
  behind = leaf.input.replace(scale=-leaf.input.scale)
  crossed = {"w": leaf.replace(scale=-leaf.scale, input=behind)}
  for deployed in (crossed, cj.freeze(crossed)):
    np.testing.assert_array_equal(cj.lift(apply)(deployed, x), cj.lift(apply)(params, x))
  assert (cj.freeze(crossed)["w"].scale > 0).all()
  # As far from zero as before, and the gradient leads there too.
  grad = jax.grad(lambda p: cj.lift(apply)(p, x).sum(), allow_int=True)
  ahead, behind = grad(params)["w"], grad(crossed)["w"]
  np.testing.assert_allclose(behind.scale, -ahead.scale, rtol=1e-5)
  np.testing.assert_allclose(behind.input.scale, -ahead.input.scale, rtol=1e-5)


def test_a_learned_steps_gradient_is_that_of_the_whole_weight_in_every_program():
  w, x = jax.random.normal(jax.random.key(0), (4, 6, 6)), jnp.ones((2, 6))
  params = cj.quantize.learned({"w": w}, 4, axis=None)

  def whole(params, x):
    for layer in params["w"]:
      x = jnp.tanh(x @ layer)
    return x

  def scanned(params, x):
    return jax.lax.scan(lambda x, layer: (jnp.tanh(x @ layer), None), x, params["w"])[0]

  grad = lambda fn: jax.grad(lambda p: fn(p).sum(), allow_int=True)(params)["w"].scale
  wanted = grad(lambda p: whole(cj.dense(p), x))
  for fn in (whole, scanned):
    np.testing.assert_allclose(grad(lambda p, fn=fn: cj.lift(fn)(p, x)), wanted, rtol=1e-4)


def test_numbers_of_k_means_are_whole():
  with pytest.raises(ValueError, match="iterations=-3: must be a whole number from 0"):
    cj.quantize.cluster({"w": jnp.eye(2)}, 2, iterations=-3)
  with pytest.raises(ValueError, match="clusters=2.5: must be one whole number"):
    cj.quantize.cluster({"w": jnp.eye(2)}, 2.5)


def test_weights_that_are_all_zero_give_no_step_to_learn():
  params = {"a": jnp.eye(4), "lora_b": jnp.zeros((2, 4))}
  with pytest.raises(ValueError, match="^lora_b: all its weights are 0.*cj.named_as_weights"):
    cj.quantize.learned(params, 4)
  assert not cj.is_leaf(cj.quantize.learned(params, 4, where="a$")["lora_b"])
  # Pruned to the last they stay 0 anyway; what is traced or empty cannot be looked at.
  pruned = cj.prune.magnitude(params, 1.0)
  cj.quantize.learned(pruned, 4)
  half = cj.Masked(params["lora_b"], jnp.arange(8).reshape(2, 4) > 3)
  with pytest.raises(ValueError, match="^lora_b: all its weights are 0"):
    cj.quantize.learned({"lora_b": half}, 4)
  jax.jit(lambda p: cj.quantize.learned(p, 4))(params)
  cj.quantize.learned({"w": jnp.zeros((0, 4))}, 4)


@pytest.mark.parametrize("refit", [True, False])
def test_a_weight_that_starts_at_zero_trains_where_its_grid_is_refitted(refit):
  keys = jax.random.split(jax.random.key(0), 4)
  x, y = jax.random.normal(keys[0], (64, 8)), 0.1 * jax.random.normal(keys[1], (64, 4))
  start = {"lora_a": jax.random.normal(keys[2], (8, 2)), "lora_b": jnp.zeros((2, 4))}

  def trained(params):
    tx = cj.optimize(optax.sgd(0.05))
    loss = lambda p: ((x @ cj.dense(p)["lora_a"] @ cj.dense(p)["lora_b"] - y) ** 2).mean()

    def step(_, carry):
      params, state = carry
      updates, state = tx.update(jax.grad(loss, allow_int=True)(params), state, params)
      params = cj.apply_updates(params, updates)
      return cj.quantize.refit(params) if refit else params, state

    run = jax.jit(lambda params: jax.lax.fori_loop(0, 100, step, (params, tx.init(params)))[0])
    return loss(run(params))

  floats, rounded = trained(start), trained(cj.quantize.affine(start, 8))
  nothing = (y ** 2).mean()
  if refit:
    assert nothing - rounded > 0.9 * (nothing - floats)
  else:
    np.testing.assert_allclose(rounded, nothing)
