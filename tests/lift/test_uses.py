"""Which parameters products use, of models that reshape, join, merge, gather and loop."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

import compress_jax as cj

X = jnp.ones((2, 4))
W = jnp.eye(4)


def looped(params, x):
  return lax.fori_loop(0, 3, lambda i, x: x @ params["stack"][i] + params["bias"][i], x)


def scanned(params, x):
  def layer(x, layer):
    return jnp.tanh(x @ layer["stack"]) * layer["bias"], None
  return lax.scan(layer, x, params)[0]


def until(params, x):
  return lax.while_loop(lambda x: (x @ params["w"]).sum() > 0, lambda x: x @ params["v"], x)


def chosen(params, x):
  return lax.cond(x.sum() > 0, lambda x: x @ params["w"], lambda x: x * params["shift"], x)


def normalized(params, x):
  return x @ (params["g"] * params["v"] / jnp.linalg.norm(params["v"], axis=0))


def routed(params, x):
  return lax.ragged_dot(x, params["experts"], jnp.array([1, 1]))


def embedded(params, x):
  return (params["table"][jnp.array([0, 1])] + x) @ params["w"] + params["places"][:2]


@jax.custom_vjp
def product(x, w):
  return x @ w


product.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))

MODELS = {
    "reshaped": (lambda p, x: jnp.einsum("bd,dhk->bhk", x, p["w"].reshape(4, 2, 2)), {"w": W},
                 {"w"}),
    "with a new axis": (lambda p, x: x @ p["w"][None], {"w": W}, {"w"}),
    "merged": (lambda p, x: x @ (p["w"] + p["a"] @ p["b"]),
               {"w": W, "a": W[:, :1], "b": W[:1]}, {"w", "a", "b"}),
    "joined": (lambda p, x: x @ jnp.concatenate([p["i"], p["f"]], 1), {"i": W, "f": W}, {"i", "f"}),
    "learned input": (lambda p, x: x + p["latents"] @ p["w"], {"latents": X, "w": W},
                      {"latents", "w"}),
    "normalized": (normalized, {"g": jnp.ones(4), "v": W}, {"v"}),
    "indexed in a loop": (looped, {"stack": jnp.ones((3, 4, 4)), "bias": jnp.ones((3, 4))},
                          {"stack"}),
    "scanned": (scanned, {"stack": jnp.ones((3, 4, 4)), "bias": jnp.ones((3, 4))}, {"stack"}),
    "until": (until, {"w": W, "v": W, "rest": W}, {"w", "v"}),
    "in one branch": (chosen, {"w": W, "shift": jnp.ones((2, 4))}, {"w"}),
    "routed": (routed, {"experts": jnp.ones((2, 4, 3))}, {"experts"}),
    "looked up": (embedded, {"table": jnp.ones((5, 4)), "w": W, "places": X}, {"w"}),
    "under checkpoint and jit": (jax.checkpoint(jax.jit(lambda p, x: x @ p["w"])), {"w": W}, {"w"}),
    "by an author's derivative": (lambda p, x: product(x, p["w"]), {"w": W}, {"w"}),
    "compressed": (lambda p, x: x @ p["w"] + p["b"],
                   {**cj.quantize.affine({"w": W}, 8), "b": X}, {"w"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_products_use(name):
  fn, params, expected = MODELS[name]
  where = cj.used_in_products(fn, params, X)
  assert {path for path in params if where(path)} == expected


class Recurrent(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.RNN(nn.OptimizedLSTMCell(4))(x)[:, -1])


def test_a_recurrent_cell_is_asked_and_counted_dense_as_it_is_compressed():
  model, x = Recurrent(), jnp.ones((2, 3, 5))
  params = model.init(jax.random.key(0), x)
  where = cj.used_in_products(model.apply, params, x)
  kernels = {path for path, _ in cj.entries(params)[0] if path.endswith("kernel")}
  assert {path for path, _ in cj.entries(params)[0] if where(path)} == kernels
  dense = cj.metrics.operations(model.apply, params, x)
  quantized = cj.metrics.operations(model.apply, cj.quantize.affine(params, 8), x)
  adds = lambda found: {path: layer.multiply_adds for path, layer in found.items()}
  assert adds(dense) == adds(quantized) and len(dense) == 9
  assert cj.metrics.total(dense).multiply_adds == 2 * 3 * 4 * (5 + 4) * 4 + 2 * 4 * 3
