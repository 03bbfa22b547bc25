"""A leaf from outside the package (tests/own_leaf.py) gets everything without an edit here."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest
from safetensors.numpy import load_file

import compress_jax as cj
from compress_jax import inspect
from compress_jax.inspect.__main__ import main
from tests.own_leaf import Binary, FakeBinary, binarize
from tests.transforms import assert_same

X = jax.random.normal(jax.random.key(5), (4, 6, 6, 3))


def dense_params():
  keys = jax.random.split(jax.random.key(0), 2)
  return {"conv": jax.random.normal(keys[0], (3, 3, 3, 8)), "bias": jnp.ones(8),
          "out": jax.random.normal(keys[1], (8, 5))}


def apply(params, x):
  x = jax.lax.conv_general_dilated(x, params["conv"], (1, 1), "SAME",
                                   dimension_numbers=("NHWC", "HWIO", "NHWC"))
  return jax.nn.relu(x + params["bias"]).mean((1, 2)) @ params["out"]


@pytest.fixture(scope="module")
def params():
  return binarize(dense_params())


@pytest.fixture(scope="module")
def frozen(params):
  return cj.freeze(params)


def test_sizes_count_one_bit_for_each_weight(params):
  size, weights = cj.size(params), 3 * 3 * 3 * 8 + 8 * 5
  assert size.packed == -(-(weights + 32 * (8 + 5) + 32 * 8) // 8)  # signs, scales, bias
  assert size.dense == 4 * (weights + 8)
  assert cj.count(params) == (weights + 8, weights + 8)
  assert size.artifact < size.dense / 2


def test_files_return_it_to_the_last_bit(params, frozen, tmp_path):
  cj.artifact.save(tmp_path / "model.cjx", params, kind="binary")
  assert_same(cj.artifact.load(tmp_path / "model.cjx")[0], frozen)
  cj.checkpoint.save(tmp_path / "step", {"trained": params, "frozen": frozen})
  assert_same(cj.checkpoint.load(tmp_path / "step")[0], {"trained": params, "frozen": frozen})
  rounded = cj.artifact.decode(cj.artifact.encode(params, floats="bfloat16"))[0]
  np.testing.assert_array_equal(rounded["out"].scales, frozen["out"].scales)


def test_a_process_that_does_not_import_it_says_so(params, tmp_path):
  cj.artifact.save(tmp_path / "model.cjx", params)
  code = f"import compress_jax as cj; cj.artifact.load({str(tmp_path / 'model.cjx')!r})"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert "leaf type 'Binary': must be one of" in done.stderr
  assert "import the module" in done.stderr


def test_what_it_must_hold_is_checked_by_every_file(frozen, tmp_path):
  broken = {"w": dataclasses.replace(frozen["out"], stored=jnp.zeros((8, 5), jnp.int8))}
  for write in (cj.artifact.save, cj.checkpoint.save):
    with pytest.raises(ValueError, match="w: Binary.stored: must hold 1 and -1 only"):
      write(tmp_path / "file", broken)


def test_inspection_shows_it(params, tmp_path, capsys):
  cj.artifact.save(tmp_path / "model.cjx", params)
  cj.checkpoint.save(tmp_path / "step", params)
  leaf = {x.path: x for x in inspect.read(tmp_path / "model.cjx").leaves}["out"]
  assert (leaf.kind, leaf.bits, leaf.shape, leaf.sparsity) == ("Binary", 1, (8, 5), 0.0)
  assert main([str(tmp_path / "step"), "--json"]) == 0
  assert "FakeBinary" in {x["kind"] for x in json.loads(capsys.readouterr().out)["leaves"]}
  assert main([str(tmp_path / "step"), "--html", str(tmp_path / "page.html")]) == 0
  assert "FakeBinary" in (tmp_path / "page.html").read_text()


def test_lift_runs_its_rule_to_the_same_bits_trained_and_deployed(params, frozen):
  run = jax.jit(cj.lift(apply))
  np.testing.assert_array_equal(run(params, X), run(frozen, X))
  np.testing.assert_allclose(run(params, X), apply(cj.dense(params), X), rtol=1e-4, atol=1e-4)
  assert_same(cj.dense(params), cj.dense(frozen))


def test_capture_and_operations_count_its_products(params, frozen):
  _, seen = cj.capture(apply)(params, X)
  assert set(seen) == {"conv", "out"} and seen["out"][0].output.shape == (4, 5)
  for tree in (params, frozen):
    found = cj.metrics.operations(apply, tree, X)
    assert found["out"].multiply_adds == 4 * 8 * 5
    assert found["out"].bit_operations == 4 * 8 * 5 * 1 * 32


def test_gradients_reach_its_values_and_the_optimizer_sees_only_them(params):
  trainable, rest = cj.partition(params)
  assert {x.shape for x in jax.tree.leaves(trainable)} == {(3, 3, 3, 8), (8,), (8, 5)}
  assert_same(cj.merge(trainable, rest), params)

  @jax.jit
  def step(trainable, state):
    loss = lambda t: (cj.lift(apply)(cj.merge(t, rest), X)**2).mean()
    value, grads = jax.value_and_grad(loss)(trainable)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(trainable, updates), state, value

  optimizer = optax.adam(0.02)
  state, losses = optimizer.init(trainable), []
  for _ in range(20):
    trainable, state, loss = step(trainable, state)
    losses.append(float(loss))
  assert losses[-1] < 0.7 * losses[0]
  assert isinstance(cj.merge(trainable, rest)["out"], FakeBinary)


def test_vmap_and_scan_go_through_it():
  stack = jax.random.normal(jax.random.key(1), (3, 8, 8))
  leaves = jax.vmap(FakeBinary)(stack)
  one_by_one = jnp.stack([FakeBinary(w).dense() for w in stack])
  np.testing.assert_allclose(jax.vmap(lambda leaf: leaf.dense())(leaves), one_by_one, rtol=1e-6)

  def layers(params, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["w"])[0]

  x = jnp.ones((2, 8)) / 4
  out = cj.lift(layers)({"w": jax.vmap(Binary)(*_stored(stack))}, x)
  np.testing.assert_allclose(out, layers({"w": one_by_one}, x), rtol=1e-5, atol=1e-6)


def _stored(stack):
  frozen = [FakeBinary(w).freeze() for w in stack]
  return jnp.stack([x.stored for x in frozen]), jnp.stack([x.scales for x in frozen])


def test_what_no_rule_runs_is_refused_or_densified_on_request(params):
  odd = lambda p, x: x @ jnp.sin(p["out"])
  x = jnp.ones((2, 8))
  with pytest.raises(cj.NoRule, match="sin on out: FakeBinary leaf"):
    cj.lift(odd)(params, x)
  np.testing.assert_allclose(cj.lift(odd, densify=True)(params, x), odd(cj.dense(params), x),
                             rtol=1e-5)


@pytest.mark.parametrize("transform, message", [
    (lambda p: cj.quantize.affine(p, 8), "a FakeBinary cannot be rounded again; quantize before"),
    (lambda p: cj.prune.magnitude(p, 0.5), "a FakeBinary cannot be masked; prune before"),
    (lambda p: cj.prune.rewind(p, dense_params()), "a FakeBinary cannot have its values put back")])
def test_a_transform_that_it_gives_no_answer_to_names_its_path(params, transform, message):
  with pytest.raises(cj.UnsupportedError, match="(conv|out): " + message):
    transform(params)


def test_exports(params, frozen, tmp_path):
  expected = np.asarray(cj.lift(apply)(frozen, X))
  cj.export.stablehlo(tmp_path / "model.stablehlo", apply, params, X)
  program = jax.export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
  np.testing.assert_array_equal(program.call(X), jax.jit(lambda x: cj.lift(apply)(frozen, x))(X))
  cj.export.onnx(tmp_path / "model.onnx", apply, params, X)
  session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
  np.testing.assert_allclose(session.run(None, {"input": np.asarray(X)})[0], expected, rtol=1e-4,
                             atol=1e-4)
  cj.export.safetensors(tmp_path / "model.safetensors", params)
  named = load_file(tmp_path / "model.safetensors")
  np.testing.assert_array_equal(named["out.stored"], frozen["out"].stored)


@cj.node
class Doubled(cj.Leaf):
  """Around another leaf, of which it says nothing."""

  held: object
  trains = ("held",)
  shape = property(lambda self: self.held.shape)
  dtype = property(lambda self: self.held.dtype)

  def dense(self):
    return 2 * cj.dense(self.held)

  def freeze(self):
    return self.replace(held=cj.freeze(self.held))


@cj.node
class DoubledWrapper(cj.Wrapper):
  """The same, passing the questions on."""

  value: object

  def dense(self):
    return 2 * cj.dense(self.value)

  def freeze(self):
    return self.replace(value=cj.freeze(self.value))


def test_a_leaf_around_another_must_pass_questions_on_or_they_are_refused():
  inner = cj.quantize.affine(cj.prune.magnitude({"w": jnp.eye(4) + 0.1}, 0.5), 4)["w"]
  for ask in (lambda leaf: leaf.weight_mask(), lambda leaf: leaf.weight_bits(),
              lambda leaf: leaf.refitted(), lambda leaf: leaf.input_grid(),
              lambda leaf: leaf.takes_input_grid, lambda leaf: leaf.block_shape()):
    with pytest.raises(cj.UnsupportedError, match="a Doubled cannot answer .* must ask held"):
      ask(Doubled(inner))
  with pytest.raises(cj.UnsupportedError, match="w: a Doubled cannot answer `weight_mask`"):
    cj.prune.magnitude({"w": Doubled(inner)}, 0.7)
  wrapped = DoubledWrapper(inner)
  assert wrapped.weight_bits() == 4 and wrapped.weight_mask().sum() == 8
  assert isinstance(cj.quantize.dynamic({"w": wrapped})["w"].input_grid(), cj.Dynamic)
  assert cj.artifact.decode(cj.artifact.encode({"w": wrapped}))[0]["w"].value.bits == 4


class Named(cj.LowRank):
  """Extends a leaf of the package without adding a field."""


def test_a_leaf_that_extends_one_of_ours_has_its_rules():
  named = cj.node(Named)(jnp.ones((4, 2)), jnp.ones((2, 3)))
  x = jnp.ones((2, 4))
  np.testing.assert_allclose(cj.lift(lambda p, x: x @ p)(named, x), x @ named.dense(), rtol=1e-6)


def test_two_classes_of_one_name_only_matter_to_files_that_hold_them(tmp_path):
  def define(scale):
    @cj.node
    class Twice(cj.Leaf):
      value: object
      shape = property(lambda self: self.value.shape)
      dtype = property(lambda self: self.value.dtype)
      dense = lambda self: scale * self.value
      freeze = lambda self: self
    return Twice

  first, second = define(1), define(2)  # one place: defined again, as in a notebook
  cj.artifact.save(tmp_path / "a.cjx", {"w": first(jnp.ones((2, 2)))})
  assert isinstance(cj.artifact.load(tmp_path / "a.cjx")[0]["w"], second)
  second.__qualname__ = "another.Twice"
  cj.artifact.save(tmp_path / "plain.cjx", {"w": jnp.eye(2)})
  assert cj.artifact.load(tmp_path / "plain.cjx")[0]["w"].shape == (2, 2)
  with pytest.raises(cj.artifact.ArtifactError, match="Twice.* and .*another.Twice have one name"):
    cj.artifact.load(tmp_path / "a.cjx")


def test_a_payload_that_no_reader_could_put_together_is_not_written(tmp_path):
  @cj.node
  class Forgetful(cj.Leaf):
    value: object
    scales: object
    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    dense = lambda self: self.value * self.scales
    freeze = lambda self: self
    payload = lambda self: {"value": cj.Payload(self.value, 32)}

  with pytest.raises(ValueError, match="w/scales: must be both a field and a payload"):
    cj.artifact.save(tmp_path / "model.cjx", {"w": Forgetful(jnp.ones(2), jnp.ones(2))})


@cj.node
class Shifted(cj.Leaf):
  """Stands for value, maybe moved by a shift."""

  value: jax.Array
  shift: jax.Array | None = None
  scale: jax.Array | None = None

  trains = ("value",)
  shape = property(lambda self: self.value.shape)
  dtype = property(lambda self: self.value.dtype)
  dense = lambda self: self.value if self.shift is None else self.value + self.shift
  freeze = lambda self: self


def test_only_what_must_be_there_is_missing_in_half_a_leaf():
  whole = Shifted(jnp.ones(2))
  assert not whole.is_half() and not Shifted(jnp.ones(2), shift=jnp.ones(2)).is_half()
  assert cj.Masked(Shifted(None), jnp.ones(2, bool)).is_half()
  assert not cj.Masked(whole, jnp.ones(2, bool)).is_half()
