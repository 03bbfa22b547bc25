"""Grids for the inputs of stacks of layers: one for each layer that `scan` runs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from compress_jax.quantize import observers

KEYS = jax.random.split(jax.random.key(0), 4)
# Layers of very different ranges: one grid for all would leave the second nothing.
SIZES = jnp.array([8.0, 0.05, 1.0])
STACK = {"w": jax.vmap(lambda key, size: size * jax.random.normal(key, (6, 6)))(KEYS[:3], SIZES)}
BATCHES = [jax.random.normal(KEYS[3], (5, 6)), jax.random.normal(KEYS[2], (5, 6)) * 2]
LAYER = lambda x, w: jax.nn.relu(x @ w)


def scanned(p, x):
  return jax.lax.scan(lambda x, w: (LAYER(x, w), None), x, p["w"])[0]


def unrolled(p, x):
  return functools.reduce(LAYER, [p[f"w{i}"] for i in range(3)], x)


OTHER_FORMS = {
    "index": lambda p, x: functools.reduce(lambda x, i: LAYER(x, p["w"][i]), range(3), x),
    "iterate": lambda p, x: functools.reduce(LAYER, p["w"], x),
    "fori_loop": lambda p, x: jax.lax.fori_loop(0, 3, lambda i, x: LAYER(x, p["w"][i]), x),
    "while": lambda p, x: jax.lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, LAYER(c[1], p["w"][c[0]])), (0, x))[1]}


def layers():
  """Returns the stack and its layers one by one, quantized alike."""
  apart = {f"w{i}": w for i, w in enumerate(STACK["w"])}
  return (cj.quantize.affine(STACK, 8, axis=(0, -1)), cj.quantize.affine(apart, 8))


OBSERVERS = [None, observers.MovingAverage(0.5), observers.Percentile(99),
             observers.MeanSquaredError(10, 64)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_each_layer_of_a_scan_gets_the_grid_that_it_would_get_alone(observer, symmetric):
  stack, apart = layers()
  options = {"observer": observer, "symmetric": symmetric}
  stack = cj.quantize.calibrate(scanned, stack, BATCHES, **options)
  apart = cj.quantize.calibrate(unrolled, apart, BATCHES, **options)
  each = [apart[f"w{i}"].input for i in range(3)]
  grid = stack["w"].input
  np.testing.assert_allclose(grid.scale, [one.scale for one in each], rtol=1e-5)
  if not symmetric:
    np.testing.assert_array_equal(grid.zero_point, [one.zero_point for one in each])
  assert grid.scale[1] > 8 * grid.scale[0]  # one grid for both would waste three bits
  exact = unrolled({f"w{i}": w for i, w in enumerate(STACK["w"])}, BATCHES[0])
  for p in (stack, cj.freeze(stack)):
    out = cj.lift(scanned)(p, BATCHES[0])
    np.testing.assert_allclose(out, cj.lift(unrolled)(apart, BATCHES[0]), rtol=1e-4, atol=1e-5)
    assert jnp.abs(out - exact).max() < 0.05 * jnp.abs(exact).max()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("form", sorted(OTHER_FORMS))
def test_a_stack_of_grids_goes_with_its_layers_however_these_are_taken(form, tmp_path):
  stack = cj.quantize.calibrate(scanned, layers()[0], BATCHES)
  frozen = cj.freeze(stack)
  cj.artifact.save(tmp_path / "model.cjx", frozen)
  kept = cj.artifact.load(tmp_path / "model.cjx")[0]
  expected = cj.lift(scanned)(frozen, BATCHES[0])
  for p in (stack, frozen, kept):
    out = cj.lift(OTHER_FORMS[form])(p, BATCHES[0])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_a_stack_of_grids_is_not_laid_over_a_single_input():
  stack = cj.quantize.calibrate(scanned, layers()[0], BATCHES)
  with pytest.raises(ValueError, match=r"input: a stack of \(3,\) grids; a loop, an index or"):
    cj.lift(lambda p, x: jnp.einsum("bi,lio->lbo", x, p["w"]))(stack, BATCHES[0])
  with pytest.raises(cj.NoRule, match="a FakeQuant cannot be transposed; it is a stack that"):
    cj.lift(lambda p, x: x[:, :3] @ jnp.transpose(p["w"], (1, 0, 2))[0])(stack, BATCHES[0])


@pytest.mark.parametrize("fn", [
    lambda p, x: scanned(p, x) + jnp.einsum("bi,lio->lbo", x, p["w"])[0],  # and used whole
    lambda p, x: scanned({"w": p["w"][::-1]}, x),  # of which the layers' order is not the stack's
    lambda p, x: scanned({"w": jnp.swapaxes(p["w"], 0, 1)}, x[:, :3] @ jnp.ones((3, 3))),
    OTHER_FORMS["fori_loop"]], ids=["whole", "reversed", "another axis", "counted"])
def test_what_does_not_go_layer_by_layer_gets_one_grid(fn):
  cube = {"w": STACK["w"][:, :3, :3]}
  x = BATCHES[0][:, :3]
  p = cj.quantize.calibrate(fn, cj.quantize.affine(cube, 8, axis=None), [x])
  assert p["w"].input.scale.shape == ()
  np.testing.assert_allclose(cj.lift(fn)(cj.freeze(p), x), cj.lift(fn)(p, x), rtol=1e-5)


def in_a_branch(p, x):
  x = scanned(p, x)
  whole = lambda x: jnp.einsum("bi,lio->lbo", x, p["w"])[0]
  return jax.lax.cond(x.sum() > 0, whole, lambda x: x, x)


def in_a_while(p, x):
  x = scanned(p, x)
  whole = lambda c: (c[0] + 1, jnp.einsum("bi,lio->lbo", c[1], p["w"])[0])
  return jax.lax.while_loop(lambda c: c[0] < 2, whole, (0, x))[1]


@pytest.mark.parametrize("fn", [in_a_branch, in_a_while])
def test_a_stack_has_one_grid_where_some_use_of_it_is_not_seen(fn):
  p = cj.quantize.calibrate(fn, cj.quantize.affine(STACK, 8, axis=None), BATCHES)
  assert p["w"].input.scale.shape == ()
  assert np.isfinite(cj.lift(fn)(cj.freeze(p), BATCHES[0])).all()


def test_slices_of_slices_that_are_not_the_weights_own_get_one_grid():
  groups = {"w": jnp.stack([STACK["w"]] * 3)}

  def both(p, x):  # the weight is in the outer loop twice: by its groups, and as it is
    def group(x, w):
      x = scanned({"w": w}, x)
      return jax.lax.cond(x.sum() > 0, lambda x: x @ p["w"][0, 0], lambda x: x, x), None
    return jax.lax.scan(group, x, p["w"])[0]

  turned = lambda p, x: jax.lax.scan(  # and in another order
      lambda x, ws: (scanned({"w": ws[0]}, x) @ ws[1][0], None), x, (p["w"], p["w"][::-1]))[0]
  for fn in (both, turned):
    p = cj.quantize.calibrate(fn, cj.quantize.affine(groups, 12, axis=None), BATCHES, bits=12)
    assert p["w"].input.scale.shape == ()
    np.testing.assert_allclose(cj.lift(fn)(cj.freeze(p), BATCHES[0]),
                               cj.lift(fn)(p, BATCHES[0]), rtol=1e-5)


def test_rows_of_a_matrix_are_no_layers():
  rows = lambda p, x: jax.lax.map(lambda row: x @ row, p["w"])
  p = cj.quantize.calibrate(rows, cj.quantize.affine({"w": STACK["w"][0]}, 8), BATCHES)
  assert p["w"].input.scale.shape == ()


def test_factors_that_all_layers_share_have_one_grid():
  p = cj.factorize.svd(STACK, rank=5, where="w")  # u of each layer, v of all
  p = cj.quantize.calibrate(scanned, cj.quantize.affine(p, 8, axis=-1), BATCHES)
  assert (p["w"].u.input.scale.shape, p["w"].v.input.scale.shape) == ((3,), ())
  np.testing.assert_allclose(cj.lift(scanned)(cj.freeze(p), BATCHES[0]),
                             cj.lift(scanned)(p, BATCHES[0]), rtol=1e-5, atol=1e-6)


def test_layers_in_a_loop_over_time_and_loops_in_loops():
  def recurrent(p, xs):  # the stack is a constant of the outer loop
    def step(h, x):
      h = scanned(p, h + x)
      return h, h
    return jax.lax.scan(step, jnp.zeros(xs.shape[1:]), xs)[0]

  def nested(p, x):  # two stacks of three layers
    return jax.lax.scan(lambda x, w: (scanned({"w": w}, x), None), x, p["w"])[0]

  xs = jnp.stack(BATCHES)
  p = cj.quantize.calibrate(recurrent, layers()[0], [xs])
  first = cj.quantize.calibrate(lambda p, h: scanned(p, h + xs[1]), layers()[0],
                                [scanned(cj.dense(layers()[0]), xs[0]), xs[0] - xs[1]])
  np.testing.assert_allclose(p["w"].input.scale, first["w"].input.scale, rtol=1e-5)
  two = cj.quantize.affine({"w": jnp.stack([STACK["w"], STACK["w"][::-1]])}, 8, axis=(0, 1, -1))
  two = cj.quantize.calibrate(nested, two, BATCHES)
  assert two["w"].input.scale.shape == (2, 3)
  apart = {f"w{i}": cj.quantize.affine(w, 8) for i, w in enumerate(STACK["w"])}
  through = lambda p, x: unrolled({f"w{i}": p[f"w{2 - i}"] for i in range(3)}, unrolled(p, x))
  out = cj.lift(nested)(cj.freeze(two), BATCHES[0])
  np.testing.assert_allclose(out, through(cj.dense(apart), BATCHES[0]), rtol=0.1,
                             atol=0.05 * float(jnp.abs(out).max()))


def test_the_factors_of_stacked_layers_have_grids_of_their_own():
  p = jax.vmap(lambda p: cj.factorize.svd(p, rank=4, where="w"))(STACK)
  p = cj.quantize.affine(p, 8, axis=(0, -1))
  p = cj.quantize.calibrate(scanned, p, BATCHES)
  assert p["w"].u.input.scale.shape == p["w"].v.input.scale.shape == (3,)
  np.testing.assert_allclose(cj.lift(scanned)(cj.freeze(p), BATCHES[0]),
                             cj.lift(scanned)(p, BATCHES[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "features"), [((4, 6), 6), ((6,), 6), ((2, 3, 5), 15)])
def test_the_gradient_of_a_learned_step_has_the_papers_factor(shape, features):
  # ReLU's outputs: the paper's unsigned data, with 0 at the lowest code and Q_P = 2^bits - 1.
  x = jnp.linspace(0, 0.9, math.prod(shape)).reshape(shape)
  for bits, zero_point, largest in ((2, -2, 3), (8, -128, 255), (4, 0, 7), (4, None, 7)):
    grid = cj.StaticGrid(jnp.float32(0.1), None if zero_point is None else jnp.int32(zero_point),
                         jnp.int32(bits), learned=True)
    total = lambda scale, grid: grid.replace(scale=scale).fake_quantize(x).sum()
    found = jax.grad(total)(grid.scale, grid)
    ratio = np.asarray(x, np.float64) / np.float64(np.float32(0.1))
    each = np.where(ratio >= largest, largest, np.round(ratio) - ratio)  # equation 3
    np.testing.assert_allclose(found, each.sum() / math.sqrt(features * largest), rtol=1e-3,
                               atol=1e-4)


def test_learned_steps_train_layer_by_layer_however_these_are_taken():
  p = cj.quantize.learned(STACK, 4, axis=(0, -1))
  p = cj.quantize.calibrate(scanned, p, BATCHES, learned=True)

  def gradient(fn):
    loss = lambda p: (cj.lift(fn, exact=False)(p, BATCHES[0])**2).sum()
    found = jax.grad(loss, allow_int=True)(p)["w"]
    return found.scale, found.input.scale

  expected = gradient(scanned)
  assert expected[1].shape == (3,) and all((g != 0).any(-1).all() for g in expected)
  for form in ("index", "fori_loop"):
    for found, known in zip(gradient(OTHER_FORMS[form]), expected, strict=True):
      np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5 * float(jnp.abs(known).max()))
