"""Selection by default, and what the optimizer sees, on the trees of real models."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import compress_jax as cj


class Normed(nn.Module):
  """A batch norm between two layers."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (3, 3))(x)
    x = nn.BatchNorm(use_running_average=True)(x)
    return nn.Dense(3)(x.mean((1, 2)))


class NormedNnx(nnx.Module):
  """The same in NNX."""

  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
    self.dense = nnx.Linear(4, 3, rngs=rngs)

  def __call__(self, x):
    return self.dense(self.norm(self.conv(x)).mean((1, 2)))


IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 3)), jnp.float32)


def linen():
  model = Normed()
  return model.init(jax.random.key(0), IMAGES), model.apply


def flax_nnx():
  graph, state = nnx.split(NormedNnx(nnx.Rngs(0)))

  def apply(params, x):
    new = jax.tree.map(lambda v: v, state)
    nnx.replace_by_pure_dict(new, params)
    return nnx.merge(graph, new)(x)

  return nnx.to_pure_dict(state), apply


def test_statistics_of_a_stack_of_layers_are_no_weights():
  stack = {"params": {"kernel": jnp.ones((3, 4, 8)), "norm": {"offset": jnp.ones((3, 8))}},
           "batch_stats": {"norm": {"mean": jnp.ones((3, 8)), "var": jnp.ones((3, 8))}}}
  pruned = cj.prune.magnitude(stack, 0.5)
  compressed = [path for path, x in cj.entries(pruned)[0] if isinstance(x, cj.Masked)]
  assert compressed == ["params/kernel"]
  nnx = {"kernel": jnp.ones((3, 4, 8)), "norm": stack["batch_stats"]["norm"]}
  assert list(cj.metrics.sparsity(nnx)) == ["kernel"]


def test_what_trains_beside_params_must_be_told():
  tree = {"params": {"w": jnp.ones((2, 2))}, "projection": jnp.ones((2, 2))}
  with pytest.raises(ValueError, match="trainable=None: projection beside 'params'"):
    cj.partition(tree)
  assert cj.partition(tree, trainable="^params/")[0]["projection"] is None
  assert cj.partition(tree, trainable=".")[0]["projection"] is not None
  # What does not train anyway need not be told.
  assert cj.partition({**tree, "projection": jnp.ones(2, int)})[0]["projection"] is None


@pytest.mark.parametrize("make", [linen, flax_nnx])
def test_statistics_do_not_move_when_the_whole_tree_is_trained(make):
  params, apply = make()
  trainable, rest = cj.partition(params)
  optimizer = optax.adam(0.1)
  state = optimizer.init(trainable)

  @jax.jit
  def step(trainable, state):
    loss = lambda t: (apply(cj.merge(t, rest), IMAGES)**2).mean()
    updates, state = optimizer.update(jax.grad(loss)(trainable), state)
    return optax.apply_updates(trainable, updates), state

  for _ in range(5):
    trainable, state = step(trainable, state)
  after, before = (dict(cj.entries(p)[0]) for p in (cj.merge(trainable, rest), params))
  names = {path: (np.asarray(after[path]) != np.asarray(before[path])).any() for path in before}
  moved = {path for path, m in names.items() if m}
  assert moved == {path for path in names if not path.endswith(("mean", "var"))}
  assert len(names) - len(moved) == 2


def test_integers_keys_and_functions_never_train():
  tree = {"w": jnp.ones(2), "count": jnp.int32(3), "key": jax.random.key(0),
          "raw": jax.random.PRNGKey(0), "fn": jax.nn.relu, "name": "x"}
  trainable, rest = cj.partition(tree)
  assert [path for path, x in cj.entries(trainable)[0]] == ["w"]
  assert cj.merge(trainable, rest)["fn"] is jax.nn.relu


def test_complex_parameters_train_and_are_counted_but_are_no_weights_to_transforms():
  target = jnp.array([[1 + 2j, -3j], [0.5, 2 - 1j]], jnp.complex64)
  params = {"spectrum": jnp.zeros((2, 2), jnp.complex64), "w": jnp.eye(2), "steps": jnp.int32(0)}
  assert [path for path, _ in cj.entries(cj.partition(params)[0])[0]] == ["spectrum", "w"]
  assert cj.count(params) == (8, 2) and cj.summary(params).params == 8
  pruned = cj.prune.magnitude(params, 0.5)
  tx = cj.optimize(optax.sgd(0.25))
  state, start = tx.init(pruned), pruned
  for _ in range(20):
    loss = lambda p: (jnp.abs(p["spectrum"] - target)**2).sum() + (cj.dense(p)["w"]**2).sum()
    grads = jax.tree.map(lambda g: g if g.dtype == jax.dtypes.float0 else g.conj(),
                         jax.grad(loss, allow_int=True)(pruned))
    updates, state = tx.update(grads, state, pruned)
    pruned = cj.apply_updates(pruned, updates)
  np.testing.assert_allclose(pruned["spectrum"], target, atol=1e-3)
  np.testing.assert_array_equal(cj.prune.rewind(pruned, start)["spectrum"], params["spectrum"])
  assert not isinstance(pruned["spectrum"], cj.Leaf)


@pytest.mark.parametrize("where", [".", "spectrum", lambda path: path != "b"])
def test_a_complex_parameter_that_where_asks_for_is_refused_by_name(where):
  params = {"spectrum": jnp.ones((2, 2), jnp.complex64), "w": jnp.eye(2), "b": jnp.ones(2)}
  for transform in (lambda: cj.quantize.affine(params, 8, where=where),
                    lambda: cj.prune.magnitude(params, 0.5, where=where),
                    lambda: cj.factorize.svd(params, rank=1, where=where)):
    with pytest.raises(ValueError, match="spectrum: complex64, and matched by where="):
      transform()


def test_what_trains_can_be_said():
  params, _ = linen()
  head = cj.partition(params, trainable="Dense_0")[0]
  assert {path for path, _ in cj.entries(head)[0]} == {"params/Dense_0/kernel",
                                                       "params/Dense_0/bias"}
  moving = cj.partition(params, trainable="batch_stats.*mean")[0]
  assert [path for path, _ in cj.entries(moving)[0]] == ["batch_stats/BatchNorm_0/mean"]
  with pytest.raises(ValueError, match="trainable='nothing' matches nothing that can train"):
    cj.partition(params, trainable="nothing")
  alone = {"mean": jnp.ones(2), "w": jnp.ones(2)}
  assert cj.partition(alone)[0]["mean"] is not None


def pruned(params, where=None):
  found = cj.prune.magnitude(params, 0.5, where=where)
  return {path for path, x in cj.entries(found)[0] if cj.is_leaf(x)}


def test_biases_of_more_than_one_dimension_are_left_alone():
  attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)
  x = jnp.ones((1, 4, 8))
  names = pruned(attention.init(jax.random.key(0), x, x))
  assert names == {f"params/{part}/kernel" for part in ("query", "key", "value", "out")}
  conv = eqx.filter(eqx.nn.Conv2d(3, 16, 3, key=jax.random.key(0)), eqx.is_array)
  assert pruned(conv) == {"weight"}


def test_a_stack_of_layers_keeps_its_biases_and_norms():
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
      return nn.Dense(8)(nn.LayerNorm()(x)), None

  stack = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
  params = stack().init(jax.random.key(0), jnp.ones((2, 8)), None)
  assert pruned(params) == {"params/Dense_0/kernel"}


def test_a_model_with_names_of_its_own_is_asked():
  stacked = jax.vmap(lambda key: eqx.nn.LayerNorm(8))(jax.random.split(jax.random.key(0), 3))
  params = {"norms": eqx.filter(stacked, eqx.is_array), "gains": jnp.ones((3, 8)),
            "matrix": jnp.eye(8), "table": jnp.ones((5, 8))}

  def apply(params, x):
    for i in range(3):
      x = x * params["norms"].weight[i] * params["gains"][i] + params["table"][i]
    return x @ params["matrix"]

  # A norm's scale is known by the bias beside it; of the others only the model tells.
  assert pruned(params) == {"gains", "matrix", "table"}
  where = cj.used_in_products(apply, params, jnp.ones((2, 8)))
  assert pruned(params, where) == {"matrix"}


def test_a_layer_s_b_is_no_weight_and_a_b_of_its_own_is():
  params = {"layers": {"w": jnp.ones((3, 4, 8)), "b": jnp.ones((3, 8))},
            "lora": {"a": jnp.ones((8, 2)), "b": jnp.ones((2, 8))}}
  assert pruned(params) == {"layers/w", "lora/a", "lora/b"}


def test_an_optimizer_s_numbers_are_no_weights_wherever_its_state_is():
  state = {"params": {"w": jnp.eye(4)}, "opt_state": {"mu": {"w": jnp.eye(4)}},
           "step": jnp.ones((2, 2))}
  assert pruned(state) == {"params/w"}
  assert pruned({"model": state, "step": jnp.eye(4)}) == {"model/params/w", "step"}


SHIFTED = {"norm": {"shift": jnp.ones((1, 4))}, "w": jnp.eye(4) + jnp.arange(4.0)}


@pytest.mark.parametrize("transform", [
    lambda p, **kw: cj.factorize.svd(p, rank=2, **kw), lambda p, **kw: cj.prune.n_m(p, 2, 4, **kw),
    lambda p, **kw: cj.quantize.affine(p, 8, group=4, **kw)])
def test_an_error_about_a_leaf_that_nobody_named_says_which_where_leaves_it_out(transform):
  tree = SHIFTED | {"bias": jnp.ones((4, 1)), "batch_stats": {"mean": jnp.ones((4, 4))}}
  with pytest.raises(ValueError, match="norm/shift: .*taken by default") as refused:
    transform(tree)
  hint = re.search(r"where=(.+) leaves it out", str(refused.value)).group(1)
  done = transform(tree, where=eval(hint, {"cj": cj, "params": tree}))
  # Of what the default takes, that leaf alone is left out; what it does not take stays out.
  assert [path for path, x in cj.entries(done)[0] if isinstance(x, cj.Leaf)] == ["w"]
  with pytest.raises(ValueError) as refused:
    transform(SHIFTED, where="shift")
  assert "by default" not in str(refused.value)  # it was named


@pytest.mark.parametrize("leave_out,matches", [("zz", 0), (".", 2)])
def test_what_leaves_out_nothing_or_everything_is_refused(leave_out, matches):
  message = f"leave_out='{leave_out}': matches {matches} weights; must match some, but not all, of"
  with pytest.raises(ValueError, match=re.escape(message)):
    cj.named_as_weights(SHIFTED, leave_out=leave_out)


def test_what_no_product_uses_is_refused_with_the_where_that_leaves_it_out():
  apply = lambda params, x: x @ params["w"] + params["norm"]["shift"]
  with pytest.raises(cj.NoRule, match="where=cj.used_in_products"):
    cj.lift(apply)(cj.quantize.affine(SHIFTED, 8), jnp.ones((2, 4)))
  where = cj.used_in_products(apply, SHIFTED, jnp.ones((2, 4)))
  params = cj.quantize.affine(SHIFTED, 8, where=where)
  assert cj.lift(apply)(params, jnp.ones((2, 4))).shape == (2, 4)


def test_a_tree_without_weights_says_what_a_weight_is():
  with pytest.raises(ValueError, match="two or more dimensions.*where='.'.*of: bias"):
    cj.prune.magnitude({"bias": jnp.ones(3)}, 0.5)


def test_modules_may_have_the_names_of_collections():
  w = jnp.ones((2, 2))
  for params in ({"params": {"cache": {"kernel": w}, "d": w}}, {"cache": {"kernel": w}, "d": w}):
    assert len(jax.tree.leaves(cj.partition(params)[0])) == 2
    assert cj.count(cj.prune.magnitude(params, 0.5)) == (8, 4)
  variables = {"params": {"d": w}, "cache": {"k": w}, "intermediates": {"d": (w,)}}
  for tree in (variables, {"params": variables, "step": jnp.int32(0)}):
    assert len(jax.tree.leaves(cj.partition(tree)[0])) == 1


@pytest.mark.parametrize("transform", [
    lambda p: cj.prune.magnitude(p, 0.5), lambda p: cj.quantize.affine(p, 8),
    lambda p: cj.factorize.svd(p, rank=2), lambda p: cj.quantize.cast(p, "float16"),
    lambda p: cj.freeze(cj.quantize.affine(p, 8))])
def test_numpys_floats_become_those_that_jax_computes_with(transform):
  w = np.random.default_rng(0).normal(size=(8, 8))
  leaf, same = transform({"w": w})["w"], transform({"w": jnp.asarray(w)})["w"]
  assert leaf.dtype == leaf.dense().dtype == np.float32
  assert cj.size(leaf) == cj.size(same)
