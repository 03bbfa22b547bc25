"""`lift` against the dense model, for every leaf, model and higher-order primitive."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import compress_jax as cj
from experiments.models.convolution import conv_general_dilated
from tests.transforms import ALL

TRANSFORMS = {
    "masked": lambda p: cj.prune.magnitude(p, 0.5),
    "int8": lambda p: cj.quantize.affine(p, 8),
    "int4": lambda p: cj.quantize.affine(p, 4, symmetric=False),
    "clustered": lambda p: cj.quantize.cluster(cj.prune.magnitude(p, 0.5), 6, iterations=3),
    "svd": lambda p: cj.factorize.svd(p, rank=4),
    "svd_all": lambda p: cj.factorize.svd(p, rank=3, where="kernel|conv|out"),
    "pruned_int8": lambda p: cj.quantize.affine(cj.prune.magnitude(p, 0.5), 8),
    "svd_pruned_int8": lambda p: cj.quantize.affine(
        cj.prune.magnitude(cj.factorize.svd(p, rank=3, where="kernel|conv|out"), 0.3), 8),
    "float8": lambda p: cj.quantize.cast(p, "float8_e4m3fn"),
    "tucker2_int8": lambda p: cj.quantize.affine(cj.factorize.tucker2(p, rank=(2, 3)), 8),
    "spatial_int8": lambda p: cj.quantize.affine(cj.factorize.spatial(p, rank=4), 8),
    "blocks": lambda p: cj.prune.block(p, 0.5, block=(6, 4)),
    "blocks_int8": lambda p: cj.quantize.affine(cj.prune.block(p, 0.5, block=(6, 4)), 8),
    "int4_group": lambda p: cj.quantize.affine(
        p, 4, group=3, where="conv0/kernel|conv$|Conv_0/kernel"),
}


def compressed(name, params):
  if "out" in params and "int" in name:
    # The function model sums over its matrix's last axis: one scale per tensor there.
    rest = TRANSFORMS[name]({"conv": params["conv"]})
    return {**rest, "bias": params["bias"], "out": cj.quantize.affine(
        {"w": params["out"]}, 8, axis=0)["w"]}
  return TRANSFORMS[name](params)


# Every transform on one model, one of each kind on the others; ALL has all of both.
FEW = ("masked", "int8", "svd_pruned_int8", "blocks_int8")
CASES = [(model, name) for name in TRANSFORMS for model in ("linen", "nnx", "function")
         if ALL or model == "linen" or name in FEW]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model,name", CASES, indirect=["model"])
def test_lifted_model_is_the_dense_model(name, model):
  params, apply, x = model
  p = compressed(name, params)
  expected = apply(cj.dense(p), x)
  scale = np.abs(expected).max()
  for tree in (p, cj.freeze(p)):
    np.testing.assert_allclose(jax.jit(cj.lift(apply))(tree, x), expected, atol=3e-6 * scale)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model,name", [c for c in CASES if "int" in c[1]], indirect=["model"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_are_the_fake_quantized_model_to_the_bit(name, symmetric, model):
  params, apply, x = model
  p = cj.quantize.calibrate(apply, compressed(name, params), [x, 2 * x], symmetric=symmetric)
  fake = jax.jit(cj.lift(apply))(p, x)
  deployed = jax.jit(cj.lift(apply))(cj.freeze(p), x)
  np.testing.assert_array_equal(fake, deployed)
  # Inputs lie on 127 steps to each side over twice the images' range, at up to seven products in
  # a row. The worst of the cases is at 0.10; most are below 0.03.
  expected = apply(cj.dense(p), x)
  assert 0 < np.linalg.norm(deployed - expected) < 0.15 * np.linalg.norm(expected)


def test_the_integer_model_multiplies_integers(linen):
  params, apply, x = linen
  p = cj.freeze(cj.quantize.calibrate(apply, cj.quantize.affine(params, 8), [x]))
  lowered = jax.jit(cj.lift(apply)).lower(p, x)
  products = re.findall(r"stablehlo\.(?:dot_general|convolution).* : "
                        r"\(tensor<[^>]*xi8>, tensor<[^>]*xi8>\) -> tensor<[^>]*xi32>",
                        lowered.as_text())
  # Of each layer's images, and of ones for the weights' sums.
  assert len(products) == 2 * 4
  # What is left once unused results are dropped, as XLA does.
  text = lowered.compile().as_text()
  lines = [line for line in text.splitlines() if " convolution(" in line or " dot(" in line]
  assert all("s32[" in line for line in lines), lines


def test_what_depends_on_the_platform_is_asked_for_it(linen):
  _, _, x = linen
  p = cj.quantize.affine({"w": jnp.ones((x.shape[-1], 4))}, 8)
  apply = lambda p, x: lax.platform_dependent(
      x, cpu=lambda x: x @ p["w"], default=lambda x: jnp.tanh(x @ p["w"]))
  lifted = jax.jit(cj.lift(apply))
  np.testing.assert_allclose(lifted(p, x), x @ cj.dense(p)["w"], atol=1e-5)
  assert "stablehlo.tanh" not in lifted.lower(p, x).as_text()
  program = lifted.trace(p, x).lower(lowering_platforms=("cuda",)).as_text()
  assert "stablehlo.tanh" in program


def test_long_sums_stay_exact_in_float32():
  keys = jax.random.split(jax.random.key(0), 2)
  w = jnp.sign(jax.random.normal(keys[0], (6000, 4)))
  x = jnp.abs(jax.random.normal(keys[1], (3, 6000))) + 3
  p = cj.quantize.calibrate(lambda p, x: x @ p, cj.quantize.affine(jnp.abs(w), 8), [x])
  fake, deployed = (cj.lift(lambda p, x: x @ p)(t, x) for t in (p, cj.freeze(p)))
  np.testing.assert_array_equal(fake, deployed)
  assert np.abs(deployed / (p.scale * p.input.scale)).max() > 2**24


def matrix(bits=8):
  w = jax.random.normal(jax.random.key(5), (4, 4)) / 3
  return cj.freeze(cj.quantize.affine({"w": w}, bits))


PROGRAMS = {
    "jit": lambda w, x: jax.jit(lambda x, w: x @ w)(x, w),
    "remat": lambda w, x: jax.checkpoint(lambda x: jnp.tanh(x @ w))(x),
    "scan_const": lambda w, x: lax.scan(lambda c, _: (jnp.tanh(c @ w), c), x, None, length=3)[1],
    "cond": lambda w, x: lax.cond(x.sum() > 0, lambda x: x @ w, lambda x: 2 * (x @ w), x),
    "while": lambda w, x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] @ w),
                                         (0, x))[1],
    "custom_jvp": lambda w, x: _custom_jvp(x, w),
    "custom_vjp": lambda w, x: _custom_vjp(x, w),
    "custom_vjp_many": lambda w, x: _custom_many(x, w),
    "vmap": lambda w, x: jax.vmap(lambda v: v @ w)(x),
    "transposed": lambda w, x: jnp.einsum("oi,bi->bo", w.T, x),
    "left": lambda w, x: (w.T @ x.T).T,
    "bfloat16": lambda w, x: (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(jnp.float32),
}


@jax.custom_jvp
def _custom_jvp(x, w):
  return x @ w


_custom_jvp.defjvp(lambda p, t: (p[0] @ p[1], 3 * (t[0] @ p[1] + p[0] @ t[1])))


@jax.custom_vjp
def _custom_vjp(x, w):
  return x @ w


_custom_vjp.defvjp(lambda x, w: (x @ w, (x, w)),
                   lambda saved, g: (5 * g @ saved[1].T, 7 * saved[0].T @ g))


@jax.custom_vjp
def _custom_many(x, w):
  return jnp.tanh(x @ w) @ w


_custom_many.defvjp(lambda x, w: (jnp.tanh(x @ w) @ w, (x, w)),
                    lambda saved, g: (2 * g @ saved[1].T, saved[0].T @ g))

LEAVES = {"quantized": lambda: matrix()["w"], "low_rank": lambda: cj.factorize.svd(
    cj.dense(matrix()), rank=2)["w"], "masked": lambda: cj.prune.magnitude(
        cj.dense(matrix()), 0.5)["w"]}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("program,leaf", itertools.product(PROGRAMS, LEAVES))
def test_programs_under_jit_grad_and_vmap(program, leaf):
  fn, w = PROGRAMS[program], LEAVES[leaf]()
  x = jax.random.normal(jax.random.key(1), (3, 4))
  loose = {"atol": 0.05} if program == "bfloat16" else {"atol": 1e-5}
  np.testing.assert_allclose(cj.lift(fn)(w, x), fn(w.dense(), x), **loose)
  np.testing.assert_allclose(jax.jit(cj.lift(fn))(w, x), fn(w.dense(), x), **loose)
  xs = jnp.stack([x, -x])
  mapped = jax.vmap(cj.lift(fn), in_axes=(None, 0))(w, xs)
  np.testing.assert_allclose(mapped, jax.vmap(fn, in_axes=(None, 0))(w.dense(), xs), **loose)
  if program != "while":
    grad = lambda f, w: jax.grad(lambda x: (f(w, x)**2).sum())(x)
    np.testing.assert_allclose(grad(cj.lift(fn), w), grad(fn, w.dense()), atol=20 * loose["atol"])


@pytest.mark.parametrize("leaf", ["masked", "low_rank", "fake"])
def test_gradients_reach_what_trains(leaf):
  w = cj.quantize.affine(cj.dense(matrix()), 8)["w"] if leaf == "fake" else LEAVES[leaf]()
  x = jax.random.normal(jax.random.key(1), (3, 4))
  trainable, rest = cj.partition(w)
  for fn in (PROGRAMS["custom_vjp"], PROGRAMS["custom_vjp_many"], PROGRAMS["scan_const"]):
    lifted = jax.grad(lambda t, f=fn: (cj.lift(f)(cj.merge(t, rest), x)**2).sum())(trainable)
    dense = jax.grad(lambda t, f=fn: (f(cj.merge(t, rest).dense(), x)**2).sum())(trainable)
    for a, b in zip(jax.tree.leaves(lifted), jax.tree.leaves(dense), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@jax.custom_vjp
def _clipped(x, w):
  return x @ w


def _clip(saved, g):
  x, w = saved
  g = jnp.clip(g, -0.5, 0.5)
  return jnp.clip(g @ w.T, -0.4, 0.4), x.T @ g


_clipped.defvjp(lambda x, w: (x @ w, (x, w)), _clip)

ON_GRIDS = {"int8": lambda p: cj.quantize.affine(p, 8),
            "rows": lambda p: cj.quantize.affine(p, 4, axis=0, symmetric=False),
            "groups": lambda p: cj.quantize.affine(p, 4, group=2),
            "float8": lambda p: cj.quantize.cast(p, "float8_e4m3fn")}


@pytest.mark.parametrize("leaf", ON_GRIDS)
def test_derivatives_that_are_no_linear_function_stay_their_authors(leaf):
  p = ON_GRIDS[leaf](jax.random.normal(jax.random.key(5), (4, 4)) / 3)
  x = jax.random.normal(jax.random.key(1), (3, 4))
  for tree in (p, cj.freeze(p)):
    trainable, rest = cj.partition(tree)
    # Some of what comes back is clipped, and some is not.
    loss = lambda fn, t, x, rest=rest: (fn(cj.merge(t, rest), x)**2).sum()
    found, wanted = (jax.jit(jax.grad(loss, (1, 2)), static_argnums=0)(fn, trainable, x) for fn in (
        cj.lift(lambda w, x: _clipped(x, w)), lambda w, x: _clipped(x, cj.dense(w))))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_derivatives_of_an_author_leave_sums_their_range_in_half_precision():
  w, x = jnp.full((1024, 1), 0.02, jnp.float16), jnp.ones((1, 1024), jnp.float16)
  out = cj.lift(lambda w, x: _clipped(x, w))(cj.quantize.affine(w, 8), x)
  assert out.dtype == jnp.float16 and float(out[0, 0]) == pytest.approx(20.48, rel=0.01)


def test_scanning_over_stacked_layers():
  w = jax.random.normal(jax.random.key(2), (5, 4, 4)) / 2
  fn = lambda w, x: lax.scan(lambda c, v: (jnp.tanh(c @ v), None), x, w)[0]
  x = jnp.ones((2, 4))
  for leaf in (cj.quantize.affine(w, 8), cj.quantize.affine(w, 8, axis=(0, -1)),
               cj.prune.magnitude(w, 0.5), cj.freeze(cj.quantize.affine(w, 4))):
    np.testing.assert_allclose(cj.lift(fn)(leaf, x), fn(leaf.dense(), x), atol=1e-6)


def test_no_rule_names_the_primitive_and_the_leaf():
  w = {"layer": {"w": matrix()["w"]}}
  fn = lambda p, x: x @ (p["layer"]["w"] * 2)
  with pytest.raises(cj.NoRule, match="no rule for mul on layer/w: Quantized") as error:
    cj.lift(fn)(w, jnp.ones((1, 4)))
  assert (error.value.primitive, error.value.path) == ("mul", "layer/w")
  np.testing.assert_allclose(cj.lift(fn, densify=True)(w, jnp.ones((1, 4))),
                             fn(cj.dense(w), jnp.ones((1, 4))), rtol=1e-6)
  with pytest.raises(cj.NoRule, match="no rule for scan"):
    cj.lift(lambda p: lax.fori_loop(0, 2, lambda _, c: c * 2, p["layer"]["w"]))(w)


def test_a_scale_along_the_summed_axis_moves_to_the_other_operand():
  fn, x = lambda w, x: x @ w.T, jnp.arange(8.0).reshape(2, 4)
  leaf = matrix()["w"]
  np.testing.assert_allclose(cj.lift(fn)(leaf, x), fn(leaf.dense(), x), rtol=1e-5)
  # So the gradient may be taken inside.
  inside = lambda w, x: jax.grad(lambda x: ((x @ w)**2).sum())(x)
  np.testing.assert_allclose(cj.lift(inside)(leaf, x), inside(leaf.dense(), x), rtol=1e-4)
  p = cj.quantize.calibrate(lambda w, x: x @ w, leaf, [x])
  with pytest.raises(cj.NoRule, match="scale varies along the summed axis"):
    cj.lift(fn)(p, x)


def test_fast_convolutions_keep_their_gradient_under_lift():
  w = jax.random.normal(jax.random.key(0), (3, 3, 2, 4))
  x = jax.random.normal(jax.random.key(1), (2, 6, 6, 2))
  fn = lambda w, x: conv_general_dilated(x, w, (1, 1), "SAME",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
  p = cj.quantize.calibrate(fn, cj.quantize.affine(w, 8), [x])
  np.testing.assert_array_equal(cj.lift(fn)(p, x), cj.lift(fn)(cj.freeze(p), x))
  trainable, rest = cj.partition(p)
  loss = lambda t: (cj.lift(fn)(cj.merge(t, rest), x)**2).sum()
  straight = lambda t: (fn(cj.merge(t, rest).dense(), p.input.fake_quantize(x))**2).sum()
  np.testing.assert_allclose(jax.grad(loss)(trainable).value, jax.grad(straight)(trainable).value,
                             rtol=1e-4, atol=1e-3)
  # Four products (value, both gradients, and none of XLA's own kind) in one layout.
  text = str(jax.make_jaxpr(jax.grad(loss))(trainable))
  assert "lhs_spec=(3, 0, 1, 2)" not in text


def test_capture_sees_every_product(linen):
  params, apply, x = linen
  out, seen = jax.jit(cj.capture(apply))(params, x)
  np.testing.assert_allclose(out, apply(params, x), rtol=1e-5, atol=1e-6)
  assert sorted(seen) == [f"params/{n}/kernel" for n in ("Conv_0", "Conv_1", "Dense_0", "Dense_1")]
  (last,) = seen["params/Dense_1/kernel"]
  np.testing.assert_allclose(last.output + params["params"]["Dense_1"]["bias"], out, rtol=1e-5,
                             atol=1e-6)
  only = cj.capture(apply, where="Dense_0")(params, x)[1]
  assert list(only) == ["params/Dense_0/kernel"]


def test_python_scalars_stay_python_scalars():
  fn = lambda p, x, *, train, n: (x @ p["w"]) * (2 if train else 1) * n
  out = cj.lift(fn)(matrix(), jnp.ones((1, 4)), train=True, n=3)
  np.testing.assert_allclose(out, 6 * jnp.ones((1, 4)) @ cj.dense(matrix())["w"], rtol=1e-6)


def test_low_rank_convolutions_keep_fast_gradients():
  w = jax.random.normal(jax.random.key(0), (3, 3, 2, 4))
  x = jax.random.normal(jax.random.key(1), (2, 6, 6, 2))
  fn = lambda w, x: conv_general_dilated(x, w, (1, 1), "SAME",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
  leaf = cj.factorize.svd(w, rank=2, where=lambda path: True)
  np.testing.assert_allclose(cj.lift(fn)(leaf, x), fn(leaf.dense(), x), atol=1e-5)
  lifted = jax.grad(lambda leaf: (cj.lift(fn)(leaf, x)**2).sum())(leaf)
  dense = jax.grad(lambda leaf: (fn(leaf.dense(), x)**2).sum())(leaf)
  np.testing.assert_allclose(lifted.u, dense.u, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("terms,symmetric", [(5000, False), (9000, True), (25088, True)])
def test_the_longest_sums_are_exact_too(terms, symmetric):
  rng = np.random.default_rng(0)
  w = jnp.asarray(rng.uniform(0.5, 1, (terms, 3)), jnp.float32)
  x = jnp.asarray(rng.uniform(0.5, 1, (4, terms)), jnp.float32)
  fn = lambda p, x: x @ p["w"]
  p = cj.quantize.calibrate(fn, cj.quantize.affine({"w": w}, 8, symmetric=symmetric), [x])
  np.testing.assert_array_equal(cj.lift(fn)(p, x), cj.lift(fn)(cj.freeze(p), x))
  np.testing.assert_allclose(cj.lift(fn)(p, x), x @ w, rtol=0.01)


def test_sums_that_leave_int32_are_refused():
  fn = lambda p, x: x @ p["w"]
  p = cj.quantize.affine({"w": jnp.ones((70_000, 1))}, 8)
  with pytest.raises(cj.NoRule, match="70000 products may leave int32"):
    cj.lift(fn)(cj.quantize.calibrate(fn, p, [jnp.ones((1, 70_000))]), jnp.ones((1, 70_000)))
  p = cj.quantize.affine({"w": jnp.ones((33_000, 1))}, 16)
  with pytest.raises(cj.NoRule, match="33000 products may leave int32"):
    cj.lift(fn)(cj.quantize.dynamic(p, bits=16), jnp.ones((1, 33_000)))


def test_float16_does_not_overflow():
  w = jnp.full((4096, 1), 0.02)
  fn = lambda p, x: x @ p["w"].astype(jnp.float16)
  p = cj.quantize.affine({"w": w}, 8)
  out = cj.lift(fn)(p, jnp.ones((1, 4096), jnp.float16))
  assert out.dtype == jnp.float16 and float(out[0, 0]) == pytest.approx(81.92, rel=0.01)


def test_half_precision_models_stay_in_half_precision():
  w = jax.random.normal(jax.random.key(0), (4, 4), jnp.bfloat16)
  p = cj.quantize.affine({"w": w}, 8)
  for tree in (p, cj.freeze(p)):
    assert cj.dense(tree)["w"].dtype == jnp.bfloat16 and cj.size(tree).dense == 32
  fn = lambda p, x: lax.scan(lambda c, _: (c @ p["w"], None), x, None, length=2)[0]
  out = cj.lift(fn)(cj.freeze(p), jnp.ones((2, 4), jnp.bfloat16))
  np.testing.assert_array_equal(out, cj.lift(fn)(p, jnp.ones((2, 4), jnp.bfloat16)))


def test_capture_of_lists_and_of_products_of_weights():
  params = [jnp.eye(3), 2 * jnp.eye(3)]
  fn = lambda p, x: (x @ p[0]) @ p[1]
  seen = cj.capture(fn)(params, jnp.ones((1, 3)))[1]
  assert {k: len(v) for k, v in seen.items()} == {"0": 1, "1": 1}
  p = cj.quantize.calibrate(fn, cj.quantize.affine(params, 8), [jnp.ones((1, 3))])
  assert all(x.input is not None for x in p)
  both = lambda p, x: (x @ (p[0] @ p[1]), p[0].astype(jnp.int8), p[1].astype(jnp.bfloat16))
  out = cj.capture(both)(params, jnp.ones((1, 3)))[0]
  assert [o.dtype.name for o in out] == ["float32", "int8", "bfloat16"]


def test_capture_through_branches_keeps_what_is_alike():
  fn = lambda w, x: lax.cond(x.sum() > 0, lambda x: (x @ w["a"] @ w["a"]) @ w["b"],
                             lambda x: (x @ w["a"]) @ w["b"], x)
  seen = cj.capture(fn)({"a": jnp.eye(3), "b": jnp.eye(3)}, jnp.ones((1, 3)))[1]
  assert list(seen) == ["b"]


def test_custom_derivatives_with_integer_outputs_and_several_weights():
  @jax.custom_vjp
  def f(x, w, v):
    y = jnp.tanh(x @ w)
    return y, y.argmax(-1)
  f.defvjp(lambda x, w, v: (f(x, w, v), (x, w, v)),
           lambda saved, g: (g[0] @ saved[1].T, jnp.zeros_like(saved[1]), jnp.zeros_like(saved[2])))
  leaf, x = matrix()["w"], jnp.ones((2, 4))
  grad = lambda fn: jax.grad(lambda x: fn(leaf, x)[0].sum())(x)
  fn = lambda w, x: f(x, w, w)
  np.testing.assert_allclose(grad(cj.lift(fn)), jax.grad(
      lambda x: fn(leaf.dense(), x)[0].sum())(x), rtol=1e-5)
