"""Any product of a compressed weight, in any layout, is the dense one's or has no rule."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax

import compress_jax as cj

LEAVES = {
    "masked": lambda p: cj.prune.magnitude(p, 0.5),
    "8 bits": lambda p: cj.quantize.affine(p, 8),
    "zero points": lambda p: cj.quantize.affine(p, 4, symmetric=False),
    "one scale": lambda p: cj.quantize.affine(p, 8, axis=None),
    "first axis": lambda p: cj.quantize.affine(p, 8, axis=0),
    "groups": lambda p: cj.quantize.affine(p, 4, group=2),
    "16 bits": lambda p: cj.quantize.affine(p, 16),
    "float8": lambda p: cj.quantize.cast(p, "float8_e4m3fn"),
    "clustered": lambda p: cj.quantize.cluster(p, 5, iterations=2),
    "svd": lambda p: cj.factorize.svd(p, rank=2, where="w"),
    "svd, 8 bits": lambda p: cj.quantize.affine(cj.factorize.svd(p, rank=2, where="w"), 8),
    "tucker2": lambda p: cj.factorize.tucker2(p, rank=(2, 2)),
    "spatial": lambda p: cj.factorize.spatial(p, rank=2),
    "blocks": lambda p: cj.prune.block(p, 0.5, block=(2, 2)),
    "blocks, 8 bits": lambda p: cj.quantize.affine(cj.prune.block(p, 0.5, block=(2, 2)), 8)}


def normal(seed, shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def check(fn, leaf, w, x):
  """Asserts that a program gives what its dense weights give, or says that it has no rule."""
  try:
    params = LEAVES[leaf]({"w": w})
  except ValueError:
    assume(False)  # a weight that this cannot be made of
  for tree in (params, cj.freeze(params)):
    wanted = fn(cj.dense(tree), x)
    try:
      found = cj.lift(fn)(tree, x)
    except cj.NoRule:
      continue
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    largest = float(abs(wanted).max()) if wanted.size else 1.0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * largest + 1e-6)


def rearranged(draw, w):
  """Draws a function that lays a weight out anew, of what programs do to weights."""
  axis = draw(st.integers(0, w.ndim - 1))
  order = draw(st.permutations(range(w.ndim)))
  stop = draw(st.integers(1, w.shape[axis]))
  return draw(st.sampled_from([
      lambda w: w, lambda w: jnp.transpose(w, order), lambda w: jnp.flip(w, axis),
      lambda w: lax.slice_in_dim(w, 0, stop, axis=axis), lambda w: w.reshape(-1, w.shape[-1]),
      lambda w: jnp.expand_dims(w, axis), lambda w: jnp.concatenate([w, w], axis)]))


@given(st.data(), st.sampled_from(sorted(LEAVES)),
       st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=4))
def test_products(data, leaf, shape):
  w = normal(0, shape)
  lay_out = rearranged(data.draw, w)
  laid = lay_out(w)
  names = "abcde"[:laid.ndim]
  # What is summed, what is a batch of products, and what comes out.
  roles = data.draw(st.lists(st.sampled_from("sbo"), min_size=laid.ndim, max_size=laid.ndim))
  shared = [name for name, role in zip(names, roles, strict=True) if role != "o"]
  of_x = "".join(data.draw(st.permutations([*shared, "z"])))
  out = data.draw(st.permutations([n for n, role in zip(names, roles, strict=True) if role != "s"]
                                  + ["z"]))
  sizes = {**dict(zip(names, laid.shape, strict=True)), "z": 3}
  equation = data.draw(st.sampled_from([f"{names},{of_x}->", f"{of_x},{names}->"])) + "".join(out)

  def fn(params, x):
    w = lay_out(params["w"])
    return jnp.einsum(equation, *((w, x) if equation.startswith(names + ",") else (x, w)))

  check(fn, leaf, w, normal(1, [sizes[name] for name in of_x]))


LAYOUTS = [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("NCHW", "HWIO", "NHWC"),
           ("NHWC", "HWIO", "HWNC")]
SIZES = {"N": 2, "H": 6, "W": 5, "C": 4}
steps = st.tuples(st.integers(1, 2), st.integers(1, 2))


@given(leaf=st.sampled_from(sorted(LEAVES)), layout=st.sampled_from(LAYOUTS),
       window=st.tuples(st.integers(1, 3), st.integers(1, 3)), strides=steps, lhs=steps, rhs=steps,
       padding=st.tuples(*[st.tuples(st.integers(-1, 2), st.integers(0, 2))] * 2),
       groups=st.sampled_from((1, 1, 1, 2, 4)))
def test_convolutions(leaf, layout, window, strides, lhs, rhs, padding, groups):
  kernel = {"H": window[0], "W": window[1], "I": SIZES["C"] // groups, "O": 8}
  w = normal(0, [kernel[name] for name in layout[1]])
  x = normal(1, [SIZES[name] for name in layout[0]])
  fn = jax.jit(lambda params, x: lax.conv_general_dilated(
      x, params["w"], strides, padding, lhs, rhs, layout, groups))
  check(fn, leaf, w, x)
