"""ONNX: how weights are stored, and that ONNX Runtime reads the same numbers in them."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import compress_jax as cj
from tests.export.test_onnx import exported, initializers, run


def draw(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def scanned(p, x):
  return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["w"])[0]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("inputs,fn,axis", [
    (15, lambda p, x: jnp.einsum("bi,ihd->bhd", x, p["w"]), (1, 2)), (4, scanned, (0, 2)),
    (4, lambda p, x: jnp.einsum("bi,hid->bhd", x, p["w"]), (0, 2))],
    ids=["attention", "stack", "heads first"])
def test_a_scale_over_two_axes_is_stored_as_the_leaf_has_it(inputs, fn, axis, symmetric, tmp_path):
  # Square, where a scale along other axes would go unnoticed.
  params = cj.quantize.affine({"w": draw(0, inputs, 4, 4)}, 8, axis=axis, symmetric=symmetric)
  graph, _, _ = exported(tmp_path / "model.onnx", fn, params, draw(1, 3, inputs))
  leaf, stored = cj.freeze(params)["w"], initializers(graph)
  assert leaf.scale.size < leaf.size
  parts = {"integers": leaf.integers, "scale": leaf.scale}
  if not symmetric:
    parts["zero_point"] = leaf.zero_point
  for name, array in parts.items():
    np.testing.assert_array_equal(stored[f"/w/{name}"], array)
  assert stored["/w/scale"].nbytes == leaf.scale.nbytes


def test_arrays_of_numpy_have_the_dtypes_of_jax(tmp_path):
  params = {"w": np.asarray(draw(0, 4, 4), np.float64), "at": np.arange(4), "bias": np.float64(3)}
  apply = lambda p, x: x @ p["w"][p["at"][::-1]] + (p["at"] + x.astype(int)) + p["bias"]
  graph, _, _ = exported(tmp_path / "model.onnx", apply, params, draw(1, 3, 4))
  stored = {name: x.dtype for name, x in initializers(graph).items() if name in ("/w", "/at")}
  assert stored == {"/w": np.float32, "/at": np.int32}
  assert not any(x.dtype == np.float64 for x in initializers(graph).values())


# With the one for zero, 2 layers of 128 entries are all that 8-bit indices can tell apart.
@pytest.mark.parametrize("entries,dtype", [(127, np.uint8), (128, np.uint16)])
def test_each_layer_of_a_stack_has_its_own_codebook(entries, dtype, tmp_path):
  w = draw(0, 2, 16, 16)
  cluster = lambda w: cj.quantize.cluster(cj.prune.magnitude({"w": w}, 0.3), entries)
  params = jax.vmap(cluster)(w)
  leaf = cj.freeze(params)["w"]
  assert leaf.zero and leaf.codebook.shape == (2, entries + 1)
  graph, _, _ = exported(tmp_path / "model.onnx", scanned, params, draw(1, 3, 16))
  stored = initializers(graph)
  assert stored["/w/codebook"].size == 2 * (entries + 1) and stored["/w/index"].dtype == dtype


def images_by(p, x):
  return jax.lax.conv(x.reshape(-1, 7, 3, 3), p["w"], (1, 1), "SAME").reshape(x.shape[0], -1)


INT4 = {
    "tensor": ((63, 9), {"axis": None}, lambda p, x: x @ p["w"]),
    "channels": ((63, 9), {}, lambda p, x: jnp.tanh(x @ p["w"])),
    "groups": ((63, 9), {"group": 21}, lambda p, x: x @ p["w"]),
    "heads": ((63, 3, 5), {"axis": (1, 2)}, lambda p, x: jnp.einsum("bi,ihd->bhd", x, p["w"])),
    "stack": ((3, 63, 63), {"axis": (0, 2)}, scanned),
    "convolution": ((5, 7, 3, 3), {"axis": 0}, images_by)}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", INT4)
def test_two_integers_of_four_bits_share_a_byte(name, symmetric, tmp_path):
  shape, arguments, fn = INT4[name]
  # Of an odd number, whatever the layout of their scales.
  params = cj.quantize.affine({"w": draw(0, *shape) / 8}, 4, symmetric=symmetric, **arguments)
  x, path = draw(1, 4, 63), tmp_path / "model.onnx"
  graph, out, _ = exported(path, fn, params, x)
  leaf, stored = cj.freeze(params)["w"], {t.name: t for t in graph.initializer}
  integers = stored["/w/integers"]
  assert integers.data_type == onnx.TensorProto.INT4
  assert len(integers.raw_data) == -(-leaf.size // 2)
  np.testing.assert_array_equal(onnx.numpy_helper.to_array(integers).astype(int), leaf.integers)
  assert ("/w/zero_point" in stored) == (not symmetric)
  # A runtime gives the same numbers as for a byte each.
  model = onnx.load(path)
  for t in model.graph.initializer:
    if t.data_type == onnx.TensorProto.INT4:
      codes = onnx.numpy_helper.to_array(t).astype(np.int8)
      t.CopyFrom(onnx.numpy_helper.from_array(codes, t.name))
  onnx.save(model, path)
  np.testing.assert_array_equal(run(path, x)[0], out)


def test_a_zero_outside_of_four_bits_keeps_a_byte(tmp_path):
  leaf = cj.Quantized(jnp.full((4, 4), 7, jnp.int8), jnp.ones(()), jnp.int8(9), None, bits=4)
  graph, _, _ = exported(tmp_path / "model.onnx", lambda p, x: x @ p["w"], {"w": leaf},
                         draw(0, 3, 4))
  assert initializers(graph)["/w/integers"].dtype == np.int8
