"""What real models do with weights beside multiplying: look up, join, reverse, slice, tie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import compress_jax as cj
from tests.transforms import ALL

LEAVES = {
    "masked": lambda p: cj.prune.magnitude(p, 0.5),
    "int8": lambda p: cj.quantize.affine(p, 8),
    "int4_rows": lambda p: cj.quantize.affine(p, 4, axis=0, symmetric=False),
    "int8_group": lambda p: cj.quantize.affine(cj.prune.magnitude(p, 0.3), 8, group=2),
    "float8": lambda p: cj.quantize.cast(p, "float8_e4m3fn"),
    "clustered": lambda p: cj.quantize.cluster(cj.prune.magnitude(p, 0.5), 5),
    "svd": lambda p: cj.factorize.svd(p, rank=3),
}
TABLE = {"embedding": jax.random.normal(jax.random.key(0), (10, 8))}


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LEAVES if ALL else ["int8_group", "svd"])
@pytest.mark.parametrize("lookup", [
    lambda p, i: p["embedding"][i], lambda p, i: jnp.take(p["embedding"], i, axis=0),
    lambda p, i: jnp.take(p["embedding"], i, axis=0, mode="fill", fill_value=7.0),
    lambda p, i: jnp.take(p["embedding"], i, axis=0, mode="clip"),
    # As Equinox's layers are called, for one example.
    lambda p, i: jax.vmap(jax.vmap(lambda one: p["embedding"][one]))(i)], ids=range(5))
def test_rows_are_looked_up(name, lookup):
  p = LEAVES[name](TABLE)
  index = jnp.array([[3, 0, 9], [3, -1, 12]])
  for tree in (p, cj.freeze(p)):
    found = jax.jit(cj.lift(lookup))(tree, index)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(lookup(cj.dense(tree), index)))
    close(np.nan_to_num(found), np.nan_to_num(lookup(cj.dense(tree), index)))


@pytest.mark.parametrize("rows,group", [(256, None), (300, None), (600, 300)])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_bytes_look_rows_up_in_tables_longer_than_a_byte_counts(dtype, rows, group):
  p = cj.freeze(cj.quantize.affine({"e": jax.random.normal(jax.random.key(0), (rows, 4))}, 8,
                                   axis=None, group=group))
  assert p["e"].scale.shape[0] == (rows // group if group else 1)
  lookup = lambda p, i: jnp.take(p["e"], i, axis=0)
  index = jnp.array([[0, 5, 127], [2, 200, 255]]).astype(dtype)  # some negative, as int8
  wanted = lookup(cj.dense(p), index)
  np.testing.assert_array_equal(cj.lift(lookup)(p, index), wanted)
  np.testing.assert_array_equal(cj.capture(lookup)(cj.dense(p), index)[0], wanted)
  taken = p["e"].taken(index[0]).dense()
  np.testing.assert_array_equal(taken, cj.dense(p)["e"][jnp.array([0, 5, 127])])


@pytest.mark.parametrize("make", [
    lambda w: w, LEAVES["masked"], LEAVES["int4_rows"], LEAVES["float8"], LEAVES["clustered"],
    lambda p: cj.factorize.svd(p, rank=1, where="w"),
    lambda p: jax.vmap(lambda w: cj.factorize.svd({"w": w}, rank=2))(
        jax.random.normal(jax.random.key(1), (1, 6, 4)))])
def test_the_only_row_of_a_weight_can_be_looked_up_many_times(make):
  p, index = make({"w": jax.random.normal(jax.random.key(0), (1, 4))}), jnp.array([[0, -1], [0, 0]])
  lookup = lambda p, i: p["w"][i]
  for tree in (p, cj.freeze(p)):
    close(cj.capture(lookup)(tree, index)[0], lookup(cj.dense(tree), index))


def test_a_lookup_makes_no_more_than_its_rows_dense():
  p = cj.freeze(cj.quantize.affine({"embedding": jnp.ones((4096, 8))}, 8))
  lookup = jax.jit(cj.lift(lambda p, i: p["embedding"][i]))
  text = lookup.lower(p, jnp.arange(3)).compile().as_text()
  assert "f32[4096,8]" not in text and "s8[4096,8]" in text


def test_gradients_reach_the_rows_that_were_looked_up():
  p = cj.quantize.affine(TABLE, 8)
  trainable, rest = cj.partition(p)
  loss = lambda t: (cj.lift(lambda p, i: p["embedding"][i])(cj.merge(t, rest), index)**2).sum()
  index = jnp.array([1, 1, 4])
  grads = jax.grad(loss)(trainable)["embedding"].value
  assert np.flatnonzero(np.abs(grads).sum(1)).tolist() == [1, 4]


@pytest.mark.parametrize("name", ["masked", "int4_rows", "float8", "clustered"])
def test_an_embedding_is_the_output_layer_too(name):
  def apply(params, ids):
    x = params["embedding"][ids]
    return jnp.tanh(x) @ params["embedding"].T

  p, ids = LEAVES[name](TABLE), jnp.array([1, 2, 3])
  for tree in (p, cj.freeze(p)):
    close(cj.lift(apply)(tree, ids), apply(cj.dense(tree), ids))
  p = cj.quantize.calibrate(apply, cj.quantize.affine(TABLE, 8, axis=0), [ids])
  np.testing.assert_array_equal(*(jax.jit(cj.lift(apply))(t, ids) for t in (p, cj.freeze(p))))


@pytest.mark.parametrize("name", ["masked", "int8", "svd", "blocks"] if ALL else ["int8"])
def test_gates_of_a_recurrent_cell_are_joined_for_one_product(name):
  cell = nn.OptimizedLSTMCell(8)
  x = jax.random.normal(jax.random.key(1), (2, 6))
  carry = cell.initialize_carry(jax.random.key(0), x.shape)
  carry = jax.tree.map(lambda c: c + 0.3, carry)
  params = cell.init(jax.random.key(0), carry, x)
  make = LEAVES | {"blocks": lambda p: cj.prune.block(p, 0.5, block=(2, 2))}
  p = make[name](params)
  for tree in (p, cj.freeze(p)):
    for a, b in zip(jax.tree.leaves(jax.jit(cj.lift(cell.apply))(tree, carry, x)),
                    jax.tree.leaves(cell.apply(cj.dense(tree), carry, x)), strict=True):
      close(a, b)
  _, seen = cj.capture(cell.apply)(p, carry, x)
  kernels = {path for path, x in cj.entries(p)[0] if cj.is_leaf(x)}
  assert kernels == {path for path in seen if path in kernels}
  operations = cj.metrics.operations(cell.apply, p, carry, x)
  assert len(operations) >= 8


def test_joined_gates_run_in_integers_to_the_bit():
  cell = nn.OptimizedLSTMCell(8)
  x = jax.random.normal(jax.random.key(1), (2, 6))
  carry = jax.tree.map(lambda c: c + 0.3, cell.initialize_carry(jax.random.key(0), x.shape))
  params = cell.init(jax.random.key(0), carry, x)
  apply = lambda p, x: cell.apply(p, carry, x)[1]
  p = cj.quantize.calibrate(apply, cj.quantize.affine(params, 8), [x])
  fake, deployed = (jax.jit(cj.lift(apply))(t, x) for t in (p, cj.freeze(p)))
  np.testing.assert_array_equal(fake, deployed)
  assert 0 < np.abs(fake - apply(cj.dense(p), x)).max() < 0.05


def test_weights_joined_along_what_is_summed():
  a, b = (jax.random.normal(jax.random.key(i), (3 + i, 4)) for i in (0, 1))
  apply = lambda p, x: x @ jnp.concatenate([p["a"], p["b"]])
  p, x = cj.quantize.affine({"a": a, "b": b}, 8), jnp.ones((2, 7))
  close(cj.lift(apply)(p, x), apply(cj.dense(p), x))
  half = {"a": p["a"], "b": b}  # only one of them is compressed
  close(cj.lift(apply)(half, x), apply(cj.dense(half), x))


def test_weights_joined_along_a_batch_of_products():
  a, b = (jax.random.normal(jax.random.key(i), (3 + i, 4, 2)) for i in (0, 1))
  apply = lambda p, x: jnp.einsum("bi,bio->bo", x, jnp.concatenate([p["a"], p["b"]]))
  p, x = cj.quantize.affine({"a": a, "b": b}, 8), jnp.ones((7, 4))
  close(cj.lift(apply)(p, x), apply(cj.dense(p), x))


@pytest.mark.parametrize("inputs,groups", [(2, {"feature_group_count": 2}),
                                           (4, {"batch_group_count": 2})])
@pytest.mark.parametrize("outputs", [(6, 2), (3, 5)])
def test_kernels_joined_under_a_convolution_in_groups_are_no_convolutions_of_their_own(
    outputs, inputs, groups):
  keys = jax.random.split(jax.random.key(0), 3)
  apply = lambda p, x: jax.lax.conv_general_dilated(
      x, jnp.concatenate([p["a"], p["b"]], -1), (1, 1), "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"), **groups)
  p = cj.quantize.affine({name: jax.random.normal(key, (1, 1, inputs, n))
                          for name, key, n in zip("ab", keys, outputs, strict=False)}, 8)
  x = jax.random.normal(keys[2], (2, 3, 3, 4))
  with pytest.raises(cj.NoRule, match=r"a \+ b: weights are joined under a convolution in groups"):
    cj.lift(apply)(p, x)
  close(cj.lift(apply, densify=True)(p, x), apply(cj.dense(p), x))


@pytest.mark.parametrize("name", ["masked", "int8", "int8_group", "float8", "clustered"])
def test_transposed_convolutions_reverse_their_kernel(name):
  def apply(params, x):
    return jax.lax.conv_transpose(x, params["kernel"], (2, 2), "SAME", transpose_kernel=False) + (
        jax.lax.conv_general_dilated(x, jnp.flip(params["kernel"], (0, 1)), (1, 1), "SAME",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))).mean()

  params = {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 5))}
  p, x = LEAVES[name](params), jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
  close(cj.lift(apply)(p, x), apply(cj.dense(p), x))


@pytest.mark.parametrize("name", ["masked", "int8", "float8", "clustered"])
def test_slices_of_a_weight_stay_compressed(name):
  stack = {"w": jax.random.normal(jax.random.key(0), (3, 6, 8))}

  def apply(params, x):
    for i in range(3):
      x = jnp.tanh(x @ params["w"][i, :, 1:7])
    return x

  p, x = LEAVES[name](stack), jnp.ones((2, 6)) / 3
  for tree in (p, cj.freeze(p)):
    close(cj.lift(apply)(tree, x), apply(cj.dense(tree), x))


def test_a_cut_through_groups_is_refused():
  p = cj.quantize.affine({"w": jnp.ones((8, 4))}, 8, group=4)
  apply = lambda p, x: x @ p["w"][:6]
  with pytest.raises(cj.NoRule, match="slice on w: .*the cut axis is quantized in groups"):
    cj.lift(apply)(p, jnp.ones((1, 6)))
  close(cj.lift(apply, densify=True)(p, jnp.ones((1, 6))), apply(cj.dense(p), jnp.ones((1, 6))))


@pytest.mark.parametrize("use", [
    lambda p: jnp.ones((1, 10)) @ p["embedding"], lambda p: jnp.asarray(p["embedding"]),
    lambda p: jnp.sum(p["embedding"]), lambda p: np.asarray(p["embedding"]).sum(),
    lambda p: jax.nn.relu(p["embedding"])])
def test_a_leaf_that_is_used_as_an_array_says_what_to_do(use):
  with pytest.raises(TypeError, match=r"Masked leaf is used as an array.*cj.dense\(params\)"):
    use(cj.prune.magnitude(TABLE, 0.5))


@pytest.mark.parametrize("name", ["masked", "int8", "float8", "clustered", "svd", "svd_int4"]
                         if ALL else ["clustered", "svd_int4"])
def test_a_loop_over_a_stack_slices_every_kind_of_leaf(name):
  stack = {"w": jax.random.normal(jax.random.key(0), (3, 8, 8)) / 3}
  make = LEAVES | {"svd_int4": lambda p: cj.quantize.affine(cj.factorize.svd(p, rank=3, where="w"),
                                                            4, axis=None),
                   "svd": lambda p: cj.factorize.svd(p, rank=3, where="w")}

  def apply(params, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["w"])[0]

  p, x = make[name](stack), jnp.ones((2, 8)) / 4
  for tree in (p, cj.freeze(p)):
    close(cj.lift(apply)(tree, x), apply(cj.dense(tree), x))


def test_a_stack_made_by_vmap_is_sliced_as_it_was_made():
  ws = jax.random.normal(jax.random.key(0), (3, 8, 8)) / 3
  leaf = jax.vmap(lambda w: cj.quantize.affine(w, 8))(ws)
  apply = lambda p, x: jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p)[0]
  each = jnp.stack([cj.quantize.affine(w, 8).dense() for w in ws])
  close(cj.lift(apply)(leaf, jnp.ones((2, 8))), apply(each, jnp.ones((2, 8))))


def all_experts(p, x):
  gates = jax.nn.softmax(x @ p["router"])
  hidden = jax.nn.relu(jnp.einsum("bd,edf->bef", x, p["up"]))
  return jnp.einsum("bef,efd,be->bd", hidden, p["down"], gates)


def best_expert(p, x):
  best = jnp.argmax(x @ p["router"], -1)
  hidden = jax.nn.relu(jnp.einsum("bd,bdf->bf", x, p["up"][best]))
  return jnp.einsum("bf,bfd->bd", hidden, p["down"][best])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("apply", [all_experts, best_expert])
@pytest.mark.parametrize("name", ["masked", "int8", "clustered"])
def test_mixtures_of_experts(apply, name):
  keys = jax.random.split(jax.random.key(0), 4)
  p = LEAVES[name]({"router": jax.random.normal(keys[0], (6, 4)),
                    "up": jax.random.normal(keys[1], (4, 6, 5)),
                    "down": jax.random.normal(keys[2], (4, 5, 6))})
  x = jax.random.normal(keys[3], (3, 6))
  for tree in (p, cj.freeze(p)):
    close(cj.lift(apply)(tree, x), apply(cj.dense(tree), x))


def test_an_adapter_that_is_added_to_a_weight_is_densified_on_request():
  p = {**cj.quantize.affine({"w": jnp.eye(4)}, 8), "a": jnp.ones((4, 2)), "b": jnp.ones((2, 4))}
  apply = lambda p, x: x @ (p["w"] + p["a"] @ p["b"])
  with pytest.raises(cj.NoRule, match="add on w: FakeQuant leaf.*densify=True"):
    cj.lift(apply)(p, jnp.ones((1, 4)))
  close(cj.lift(apply, densify=True)(p, jnp.ones((1, 4))), apply(cj.dense(p), jnp.ones((1, 4))))


@pytest.mark.parametrize("leaf", [
    lambda p: p, lambda p: cj.prune.magnitude(p, 0.5),
    lambda p: cj.freeze(cj.quantize.affine(p, 8, axis=(0, 2), symmetric=False))])
def test_a_stack_of_weights_can_be_iterated_over(leaf):
  def fn(params, x):
    for layer in params["w"]:
      x = jnp.tanh(x @ layer)
    return x

  params = leaf({"w": jax.random.normal(jax.random.key(0), (3, 4, 4))})
  x = jnp.ones((2, 4))
  np.testing.assert_allclose(cj.lift(fn)(params, x), fn(cj.dense(params), x), rtol=1e-5)


def test_experts_of_factors_are_looked_up_with_both_of_them():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 5)), jnp.float32)
  p = jax.vmap(lambda w: cj.factorize.svd({"w": w}, rank=2))(w)
  rows = jnp.array([2, 0, 3, 3])
  found = cj.lift(lambda p, i: p["w"][i])(p, rows)
  np.testing.assert_allclose(found, cj.dense(p)["w"][rows], atol=1e-6)
