"""ONNX: what a program computes, however it is written, is what ONNX Runtime does."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import linen as nn

import compress_jax as cj
from tests.export.test_onnx import count, exported, initializers, run

# Square: a product over a wrong axis has the shape of the right one.
SIZE = 8


def draw(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def quantized(params, fn, x):
  return cj.quantize.affine(params, 8, axis=cj.quantize.channel_axes(fn, params, x))


def calibrated(params, fn, x):
  return cj.quantize.calibrate(fn, quantized(params, fn, x), [x])


KINDS = {"float": lambda params, *_: params, "quantized": quantized, "calibrated": calibrated}


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_are_multiplied_over_the_axes_that_are_asked_for(kind, tmp_path):
  axes = ["bi,io->bo", "bi,oi->bo", "ib,io->bo", "ib,oi->bo", "ib,io->ob"]

  def apply(p, x):
    out = [jnp.einsum(form, x, w) for form, w in zip(axes, p["right"], strict=True)]
    # The weight on the left.
    out += [jax.lax.dot_general(w, x, (((i,), (j,)), ((), ())))
            for (i, j), w in zip(np.ndindex(2, 2), p["left"], strict=True)]
    return jnp.stack(out, axis=1)

  params = {"right": list(draw(0, 5, SIZE, SIZE)), "left": list(draw(1, 4, SIZE, SIZE))}
  x = draw(2, SIZE, SIZE)
  graph, _, _ = exported(tmp_path / "model.onnx", apply, KINDS[kind](params, apply, x), x,
                         batch=None)
  assert count(graph)["Gemm"] == 9
  assert count(graph)["QuantizeLinear"] == (9 if kind == "calibrated" else 0)


def test_a_mark_is_next_to_the_product_where_x_is_turned(tmp_path):
  apply, x = lambda p, x: jnp.einsum("ib,io->bo", x, p["w"]), draw(0, SIZE, SIZE)
  params = calibrated({"w": draw(1, SIZE, SIZE)}, apply, x)
  graph, _, _ = exported(tmp_path / "model.onnx", apply, params, x, batch=None)
  kinds = [n.op_type for n in graph.node if n.output[0] != "/w"]
  assert kinds == ["Transpose", "QuantizeLinear", "DequantizeLinear", "Gemm"]


def test_products_of_two_activations(tmp_path):
  def apply(p, x):
    k, v = x @ p["k"], x @ p["v"]
    turned = [jax.lax.dot_general(k[0], v[0], (((i,), (j,)), ((), ())))
              for i, j in np.ndindex(2, 2)]
    batched = [jax.lax.dot_general(k, v, (((i,), (j,)), ((b,), (b,))))
               for b, i, j in [(0, 1, 1), (0, 1, 2), (0, 2, 1), (0, 2, 2), (1, 0, 0), (2, 1, 0)]]
    return jnp.stack([*(jnp.tile(y, (SIZE, 1, 1)) for y in turned), *batched], axis=1)

  params = {"k": draw(0, SIZE, SIZE), "v": draw(1, SIZE, SIZE)}
  exported(tmp_path / "model.onnx", apply, params, draw(2, SIZE, SIZE, SIZE), batch=None)
  gram = lambda p, x: x @ jnp.einsum("nd,ne->de", x @ p["k"], x @ p["v"])
  exported(tmp_path / "gram.onnx", gram, params, draw(3, 5, SIZE), batch=None)
  # Of any number of rows, whatever the others are.
  again = lambda p, x: jnp.broadcast_to(jnp.einsum("nd,ne->de", x @ p["k"], x), (1, SIZE, SIZE))
  with_rows = lambda p, x: jnp.tile(again(p, x[:, 0]), (x.shape[0], 1, 1))
  exported(tmp_path / "rows.onnx", with_rows, params, draw(4, 1, 3, SIZE))


def test_recurrent_networks_of_flax_which_split_keys_for_nothing(tmp_path):
  network, x = nn.RNN(nn.LSTMCell(SIZE)), draw(0, 3, 5, SIZE)
  params = cj.quantize.affine(network.init(jax.random.key(1), x), 8)
  graph, _, _ = exported(tmp_path / "model.onnx", network.apply, params, x)
  assert count(graph)["Loop"] == 1


def test_what_a_step_of_a_loop_computes_for_nothing_is_not_in_the_graph(tmp_path):
  def step(h, w):
    jax.random.split(jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32)))
    return jnp.tanh(h @ w), None

  params = {"w": draw(0, 3, SIZE, SIZE)}
  exported(tmp_path / "model.onnx", lambda p, x: jax.lax.scan(step, x, p["w"])[0], params,
           draw(1, 3, SIZE))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_computed_in_float32_and_rounded(kind, tmp_path):
  def apply(p, x):
    x = x.astype(jnp.bfloat16)
    x = nn.max_pool(jax.lax.conv(x, p["conv"], (1, 1), "SAME"), (1, 2), (1, 2)).mean((2, 3))
    x = jax.nn.gelu(x @ p["w"] + p["b"])
    x = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w) * 2, h), x, p["stack"])[0]
    x = jax.lax.cond(x.sum() > 0, lambda x: x / 3, lambda x: jnp.ones_like(x), x)
    x = jnp.einsum("bi,oi->bo", x, p["v"]) + jax.nn.softmax(x)
    return x.astype(jnp.float32)

  shapes = {"conv": (SIZE, SIZE, 2, 2), "w": (SIZE, SIZE), "v": (SIZE, SIZE), "b": (SIZE,),
            "stack": (2, SIZE, SIZE)}
  params = {name: draw(i, *shape).astype(jnp.bfloat16) / 3
            for i, (name, shape) in enumerate(shapes.items())}
  x = draw(5, 5, SIZE, SIZE, SIZE)
  path = tmp_path / "model.onnx"
  # Roundings of one part in 256, of which compilers drop some.
  graph, out, _ = exported(path, apply, KINDS[kind](params, apply, x), x, close=0.02)
  np.testing.assert_array_equal(out, out.astype(jnp.bfloat16))
  if kind == "float":
    assert set(initializers(graph)) >= {f"/{name}/values" for name in shapes}
    assert sum(x.nbytes for name, x in initializers(graph).items() if "/values" in name) == (
        sum(x.nbytes for x in params.values()))


def test_an_output_of_bfloat16_stays_one(tmp_path):
  path, params = tmp_path / "model.onnx", {"w": draw(0, SIZE, SIZE).astype(jnp.bfloat16)}
  cj.export.onnx(path, lambda p, x: x @ p["w"], params, jnp.ones((2, SIZE), jnp.bfloat16))
  session = onnxruntime.InferenceSession(path)
  values = [*session.get_inputs(), *session.get_outputs()]
  assert [v.type for v in values] == ["tensor(bfloat16)"] * 2


def test_outputs_that_no_node_makes(tmp_path):
  path, x = tmp_path / "model.onnx", draw(0, 3, SIZE)
  params = cj.quantize.affine({"w": draw(1, SIZE, SIZE), "v": draw(2, SIZE, SIZE)}, 8, where="v")
  params |= {"half": draw(3, SIZE).astype(jnp.float16), "ids": jnp.arange(SIZE)}

  def apply(p, x):
    y = jnp.tanh(x @ p["w"] @ p["v"])
    return p["w"], y, p["half"], x, y, p["v"], p["w"], jnp.arange(SIZE), p["ids"]

  cj.export.onnx(path, apply, params, x)
  expected = apply(cj.dense(params), x)
  for got, wanted in zip(run(path, x), expected, strict=True):
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, atol=1e-5)
  assert {n.output[0] for n in onnx.load(path).graph.node} >= {f"output_{i}" for i in range(9)}
  cj.export.onnx(path, lambda p, x: p["w"], params, x)
  np.testing.assert_array_equal(run(path, x)[0], params["w"])


# (before, after, between) of each axis.
PADS = [((0, 0, 0), (2, 0, 0), (0, 1, 0)), ((0, 0, 0), (-1, 2, 0), (-2, -1, 0)),
        ((0, 0, 0), (0, 0, 0), (0, 0, 0)), ((1, 0, 0), (0, 3, 0), (0, 0, 0))]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32])
@pytest.mark.parametrize("config", PADS, ids=str)
def test_padding_of_batches_of_any_size(config, dtype, tmp_path):
  def apply(p, x):
    y = jax.lax.pad(x.astype(dtype), jnp.asarray(3, dtype), config).astype(jnp.float32)
    return y[config[0][0]:] + y[:1] + p["b"]

  exported(tmp_path / "model.onnx", apply, {"b": jnp.ones(())}, draw(0, 3, SIZE, SIZE) * 9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_causal_convolution_pads_before(kind, tmp_path):
  network, x = nn.Conv(SIZE, (3,), padding="CAUSAL"), draw(0, 3, SIZE, SIZE)
  params = network.init(jax.random.key(1), x)
  exported(tmp_path / "model.onnx", network.apply, KINDS[kind](params, network.apply, x), x)
