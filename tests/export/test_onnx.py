"""ONNX: quantization stands in the graph as nodes, and ONNX Runtime predicts the same."""

import collections
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import linen as nn

import compress_jax as cj
from experiments.models import create
from tests import transforms

# Largest difference from `lift`, as a fraction of the largest output: both add up floats in
# some order. With 16-bit inputs the last bit of one may be another code of 65,536 there.
CLOSE, CLOSE_16 = 2e-6, 1e-4


def run(path, x):
  """Returns the outputs of ONNX Runtime on the CPU."""
  session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
  assert [value.name for value in session.get_inputs()] == ["input"]
  return session.run(None, {"input": np.asarray(x)})


def exported(path, fn, params, x, close=CLOSE, **arguments):
  """Exports, checks two batch sizes against `lift`; returns (graph, output, `lift`'s)."""
  deployed = cj.freeze(params)
  assert cj.export.onnx(path, fn, deployed, x, **arguments) == path.stat().st_size
  expected = np.asarray(jax.jit(cj.lift(fn))(deployed, x))
  for n in (1, len(x)) if arguments.get("batch", "b") else (len(x),):
    (out,) = run(path, x[:n])
    assert out.dtype == expected.dtype
    np.testing.assert_allclose(out, expected[:n], rtol=0, atol=close * np.abs(expected).max())
  return onnx.load(path).graph, out, expected


def count(graph):
  return collections.Counter(n.op_type for n in graph.node)


def initializers(graph):
  return {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}


@pytest.fixture(scope="module")
def convnet():
  """(apply, quantized variables, images) of the study's model, tiny."""
  model = create("convnet", num_classes=5, widths=[4, 8], hidden=[256])
  draw = np.random.default_rng(0)
  images = jnp.asarray(draw.normal(size=(64, 16, 16, 3)), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(1), images)
  # Positive, for variances too.
  variables = jax.tree.map(lambda x: jnp.asarray(draw.gamma(1, size=x.shape), x.dtype), shapes)
  centred = jax.tree.map(lambda x: x - 1 if x.ndim > 1 else x, variables)
  params = cj.quantize.affine(centred, 8)
  return model.apply, cj.quantize.calibrate(model.apply, params, [images[:32]]), images


def test_integers_and_grids_of_a_convnet(convnet, tmp_path):
  apply, params, images = convnet
  graph, out, expected = exported(tmp_path / "model.onnx", apply, params, images)
  deployed = cj.freeze(params)
  np.testing.assert_array_equal(out.argmax(-1), expected.argmax(-1))
  assert count(graph)["QuantizeLinear"] == 4 and count(graph)["DequantizeLinear"] == 8
  stored, made_by = initializers(graph), {n.output[0]: n for n in graph.node}
  products = [n for n in graph.node if n.op_type in ("Conv", "Gemm")]
  assert [n.op_type for n in products] == ["Conv", "Conv", "Gemm", "Gemm"]
  names = ["layer0/conv", "layer1/conv", "linear0", "head"]
  for n, name in zip(products, names, strict=True):
    x, w = made_by[n.input[0]], made_by[n.input[1]]
    assert [x.op_type, made_by[x.input[0]].op_type] == ["DequantizeLinear", "QuantizeLinear"]
    assert w.op_type == "DequantizeLinear" and w.output[0] == f"/params/{name}/kernel"
    integers, scale = (stored[i] for i in w.input)
    channels = 0 if n.op_type == "Conv" else 1
    assert [(a.name, a.i) for a in w.attribute] == [("axis", channels)]
    assert integers.dtype == np.int8 and scale.shape == (integers.shape[channels],)
    leaf = deployed["params"][name.split("/")[0]]
    leaf = (leaf["conv"] if "/" in name else leaf)["kernel"]
    order = (3, 2, 0, 1) if n.op_type == "Conv" else (0, 1)
    np.testing.assert_array_equal(integers, np.transpose(leaf.integers, order))
    np.testing.assert_array_equal(stored[x.input[1]], leaf.input.scale)


def test_the_file_is_about_a_quarter_of_the_float_one(convnet, tmp_path):
  apply, params, images = convnet
  cj.export.onnx(tmp_path / "float.onnx", apply, cj.dense(params), images)
  assert not count(onnx.load(tmp_path / "float.onnx").graph)["DequantizeLinear"]
  size = cj.export.onnx(tmp_path / "integers.onnx", apply, params, images)
  assert size < 0.33 * (tmp_path / "float.onnx").stat().st_size
  largest = max(initializers(onnx.load(tmp_path / "integers.onnx").graph).values(),
                key=lambda x: x.size)
  assert largest.dtype == np.int8


def model(p, x):
  """Runs `transforms.params()`, max pooling over channels-last windows between the two."""
  x = jax.lax.conv_general_dilated(x, p["conv"]["kernel"], (1, 1), "SAME",
                                   dimension_numbers=("NHWC", "HWIO", "NHWC"))
  x = nn.max_pool(jax.nn.relu(x + p["conv"]["bias"]), (2, 2), (2, 2))
  return x.reshape(x.shape[0], -1)[:, :16] @ p["dense"]["kernel"]


@pytest.fixture(scope="module")
def images():
  return jax.random.normal(jax.random.key(0), (16, 8, 8, 4))


def test_every_leaf_without_a_grid_for_its_input(tmp_path):
  draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)
  layers = [
      cj.Masked(draw(0, 8, 8), jnp.tri(8, dtype=bool)),
      cj.BlockSparse.from_dense(jnp.tril(draw(1, 8, 8)), (4, 4)),
      cj.Float(draw(2, 8, 8).astype(jnp.float16), None),
      cj.Float(draw(3, 8, 8).astype(jnp.float8_e4m3fn), jnp.full((1, 8), 0.1)),
      cj.Clustered(draw(4, 5), jnp.arange(64, dtype=jnp.uint8).reshape(8, 8) % 5, zero=True),
      cj.quantize.affine({"w": draw(5, 8, 8)}, 8, axis=None)["w"],
      cj.quantize.affine({"w": draw(6, 8, 8)}, 4, group=2)["w"],
      cj.LowRank(draw(7, 8, 2), cj.quantize.affine({"w": draw(8, 2, 8)}, 8)["w"])]

  def apply(p, x):
    for w in p:
      x = jnp.tanh(x @ w)
    return x

  graph, _, _ = exported(tmp_path / "model.onnx", apply, layers, draw(9, 4, 8))
  found = count(graph)
  assert found["DequantizeLinear"] == 3 and not found["QuantizeLinear"]
  assert (found["Gemm"], found["Cast"], found["Gather"]) == (9, 3, 1)
  stored = initializers(graph)
  kinds = {name: x.dtype.name for name, x in stored.items() if x.size > 8}
  assert collections.Counter(kinds.values()) == {
      "float32": 4, "float16": 1, "float8_e4m3fn": 1, "uint8": 1, "int8": 2, "int4": 1}, kinds


@pytest.mark.parametrize("name,bits,symmetric,products", [
    ("asymmetric", 8, True, 2), ("int16", 16, False, 2), ("tucker2+affine", 4, False, 4)])
def test_grids_for_inputs_of_any_bits(name, bits, symmetric, products, images, tmp_path):
  params = transforms.chained(*name.split("+"))
  params = cj.quantize.calibrate(model, params, [images[:4]], bits=bits, symmetric=symmetric)
  graph, _, _ = exported(tmp_path / "model.onnx", model, params, images,
                         close=CLOSE_16 if bits == 16 else CLOSE)
  found = count(graph)
  assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (products, 2 * products)
  assert found["MaxPool"] == 1
  # Inputs beyond the grid are clipped to its own ends.
  assert found["Clip"] == (products if symmetric or bits == 4 else 0)
  zeros = [x for name, x in initializers(graph).items() if "input" in name and "zero" in name]
  assert [x.dtype for x in zeros] == [np.int16 if bits == 16 else np.int8] * products


@pytest.mark.parametrize("bits,symmetric", [(8, False), (4, True)])
def test_dynamic_grids(bits, symmetric, tmp_path):
  apply, x = lambda p, x: jnp.tanh(x @ p["w"]), jax.random.normal(jax.random.key(0), (8, 16))
  params = cj.quantize.dynamic(cj.quantize.affine({"w": x.T @ x}, 8), bits=bits,
                               symmetric=symmetric)
  path = tmp_path / "model.onnx"
  found = count(exported(path, apply, params, x, batch=None)[0])
  assert found["DynamicQuantizeLinear"] == (1 if bits == 8 else 0)


def test_attention_and_a_table_used_twice(tmp_path):
  def attend(p, x):
    x = p["table"][x]
    q, k, v = (jnp.einsum("bti,ihd->bthd", x, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    x = x + jnp.einsum("bhts,bshd->bthd", weights, v).reshape(x.shape)
    return jax.nn.gelu(x) @ p["table"].T

  keys = iter(jax.random.split(jax.random.key(0), 4))
  params = {name: jax.random.normal(next(keys), (8, 2, 4)) / 3 for name in "qkv"}
  params["table"] = jax.random.normal(next(keys), (11, 8))
  x = jnp.arange(15).reshape(3, 5) % 11
  params = cj.quantize.affine(params, 8, where="[qkv]$", axis=(1, 2))
  params = cj.quantize.calibrate(attend, params, [x])
  found = count(exported(tmp_path / "model.onnx", attend, params, x)[0])
  assert found["QuantizeLinear"] == 3 and found["DequantizeLinear"] == 6


def test_loops_and_branches(tmp_path):
  w = jax.random.normal(jax.random.key(0), (3, 8, 8)) / 3
  x = jax.random.normal(jax.random.key(1), (4, 8))

  def scanned(p, x):
    x = jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, p["w"])[0]
    return jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: -x, x)

  params = cj.quantize.affine({"w": w}, 8, axis=(0, 2))
  params = cj.quantize.calibrate(scanned, params, [x])
  assert count(exported(tmp_path / "model.onnx", scanned, params, x)[0])["Loop"] == 1


def test_of_branches_for_platforms_a_graph_has_that_of_the_cpu(tmp_path):
  def choosing(p, x):
    # There is no operator for what a GPU would do.
    other = jax.lax.platform_dependent(x @ p, cuda=jax.lax.erf_inv, default=lambda y: -y)
    return jax.lax.platform_dependent(other, cpu=lambda y: y @ p, default=jax.lax.erf_inv)

  weight = cj.quantize.affine(jax.random.normal(jax.random.key(0), (8, 8)), 8)
  graph, _, _ = exported(tmp_path / "model.onnx", choosing, weight, jnp.ones((3, 8)))
  assert "If" not in count(graph) and count(graph)["Gemm"] == 2


def test_several_outputs_one_batch_size_and_narrow_floats(tmp_path):
  path, x = tmp_path / "model.onnx", jnp.linspace(-1, 1, 32).reshape(2, 4, 4)
  apply = lambda p, x: x.reshape(len(x), -1) @ p["w"] + p["b"]
  params = {"w": jnp.linspace(-2, 1, 48).reshape(16, 3), "b": 1.0}
  with pytest.raises(ValueError, match="batch='b': the model does not take .* must be None"):
    cj.export.onnx(path, apply, params, x)
  exported(path, apply, cj.quantize.affine(params, 8), x, batch=None)
  x = x[0]
  cj.export.onnx(path, lambda p, x: {"a": x @ x, "b": (x.sum(), x + p["b"])}, params, x, batch=None)
  assert [v.name for v in onnx.load(path).graph.output] == ["output_0", "output_1", "output_2"]
  np.testing.assert_allclose(run(path, x)[1], x.sum(), atol=1e-6)
  half = lambda p, x: (x.astype(jnp.float16) @ p["w"]).astype(jnp.float32)
  exported(path, half, {"w": jnp.eye(4, 3, dtype=jnp.float16)}, x, close=1e-3)


def test_errors(tmp_path, monkeypatch):
  path, params, x = tmp_path / "model.onnx", {"w": jnp.eye(2)}, jnp.ones((1, 2))
  apply = lambda p, x: x @ p["w"]
  with pytest.raises(ValueError, match="opset=20: must be a whole number from 21"):
    cj.export.onnx(path, apply, params, x, opset=20)
  newest = onnx.defs.onnx_opset_version()
  with pytest.raises(ValueError, match=f"opset={newest + 1}: must be .* from 21 to {newest}, "):
    cj.export.onnx(path, apply, params, x, opset=newest + 1)
  with pytest.raises(ValueError, match="x: a str"):
    cj.export.onnx(path, apply, params, "x")
  with pytest.raises(TypeError, match="dot_general"):
    cj.export.onnx(path, apply, params, jnp.ones((1, 3)))
  for package in ("onnx", "jax2onnx"):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not .*pip install compress_jax\[onnx\]"):
      cj.export.onnx(path, apply, params, x)
  assert not path.exists()


EMBEDDINGS = {
    "float": lambda p: p, "quantized": lambda p: cj.quantize.affine(p, 8),
    "quantized by rows": lambda p: cj.quantize.affine(p, 4, axis=0),
    "in groups": lambda p: cj.quantize.affine(p, 4, group=2, symmetric=False),
    "pruned": lambda p: cj.prune.magnitude(p, 0.5),
    "clustered": lambda p: cj.quantize.cluster(p, 4),
    "factors": lambda p: cj.factorize.svd(p, rank=3),
    "quantized factors": lambda p: cj.quantize.affine(cj.factorize.svd(p, rank=3), 8)}


@pytest.mark.parametrize("shape", [(3,), (3, 2)], ids=str)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_take_batches_of_any_size(name, shape, tmp_path):
  keys = jax.random.split(jax.random.key(0, impl="rbg"), 2)
  params = {"e": jax.random.normal(keys[0], (8, 6)), "v": jax.random.normal(keys[1], (6, 4))}
  ids = jnp.arange(8 - np.prod(shape), 8).reshape(shape)
  exported(tmp_path / "model.onnx", lambda p, i: p["e"][i] @ p["v"], EMBEDDINGS[name](params), ids)
