"""Any pytree goes into files and comes back: as it was with `like=`, as dicts and lists without."""

import collections
import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import FrozenDict
from safetensors.numpy import load_file

import compress_jax as cj
from compress_jax import inspect
from compress_jax.io import leaf_summary
from compress_jax.io.structure import Absent, describe
from tests.io import trees

KINDS = trees.every_kind()


def saved_and_loaded(tree, path, way, **arguments):
  """Returns what a file of a tree gives."""
  way.save(path, tree)
  return way.load(path, **arguments)[0]


WAYS = pytest.mark.parametrize("way", [cj.artifact, cj.checkpoint],
                               ids=["artifact", "checkpoint"])


@WAYS
@pytest.mark.parametrize("kind", KINDS)
def test_like_gives_the_same_kind_back(kind, way, tmp_path):
  tree = KINDS[kind]
  trees.same(saved_and_loaded(tree, tmp_path / "file", way, like=tree), cj.freeze(tree)
             if way is cj.artifact else tree)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_else_takes_it(kind, tmp_path):
  tree = KINDS[kind]
  arrays = [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype")]
  size = cj.size(tree)
  assert size.artifact == cj.artifact.save(tmp_path / "m.cjx", tree)
  assert size.dense >= sum(4 * x.size for x in arrays if x.dtype == jnp.float32)
  cj.export.safetensors(tmp_path / "m.safetensors", tree)
  tensors = load_file(tmp_path / "m.safetensors")
  assert len(tensors) >= len([x for x in arrays if not trees.is_key(x)])
  cj.checkpoint.save(tmp_path / "step", tree)
  for path in (tmp_path / "m.cjx", tmp_path / "step"):
    found = inspect.check(inspect.read(path))
    assert not found.failures
    # Each by a name of its own.
    assert len({leaf.path for leaf in found.leaves}) == len(found.leaves) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_partition_takes_it_apart(kind):
  tree = KINDS[kind]
  trainable, rest = cj.partition(tree)
  for x in jax.tree.leaves(trainable):
    assert jnp.issubdtype(x.dtype, jnp.floating)
  trees.same(cj.merge(trainable, rest), tree)


@WAYS
def test_dicts_keep_their_order_and_ordered_dicts_their_kind(way, tmp_path):
  tree = {"b": jnp.ones(2), "a": {"z": jnp.ones(1), "y": None, "x": {}},
          "o": collections.OrderedDict(d=jnp.ones(1), c=jnp.zeros(1))}
  loaded = saved_and_loaded(tree, tmp_path / "file", way)
  assert list(loaded) == ["b", "a", "o"] and list(loaded["a"]) == ["z", "y", "x"]
  assert type(loaded["o"]) is collections.OrderedDict and list(loaded["o"]) == ["d", "c"]
  assert type(loaded) is type(loaded["a"]) is dict


def test_an_optimizers_state_comes_back(tmp_path):
  params = {"w": trees.w(), "b": jnp.ones(4)}
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.constant_schedule(0.1)))
  state = {"params": params, "optimizer": optimizer.init(params), "step": 3}
  loaded = saved_and_loaded(state, tmp_path / "step", cj.checkpoint, like=state)
  trees.same(loaded, state)
  trees.same(optimizer.update(params, loaded["optimizer"], params),
             optimizer.update(params, state["optimizer"], params))


@WAYS
def test_without_like_they_are_dicts_and_lists(way, tmp_path):
  load = lambda kind: saved_and_loaded(KINDS[kind], tmp_path / kind, way)
  assert type(load("frozen_dict")) is dict and type(load("frozen_dict")["a"]) is dict
  assert sorted(load("namedtuple")) == ["count", "mu"]
  assert load("dataclass")[0]["b"] is None and sorted(load("dataclass")[1]) == ["b", "w"]
  assert isinstance(load("unnamed"), list)
  assert list(load("integer_keys")) == [3, 1] and list(load("integer_keys")[1]) == [0]
  assert list(load("tuple_keys")) == [("params", "w"), ("params", "b")]
  assert load("slashes")["a/b"].shape == (4, 4) and load("slashes")["a"]["b"].shape == (2, 2)
  state = load("nnx_state")
  assert list(state["layers"]) == [0, 1] and state["layers"][0]["kernel"]["value"].shape == (4, 4)
  assert isinstance(load("nnx_module")["layers"], list)
  assert jax.random.key_impl(load("keys")["many"]) == "rbg"
  assert load("keys")["raw"].dtype == jnp.uint32


@WAYS
def test_what_is_no_array_is_named_as_absent(way, tmp_path):
  model = KINDS["equinox"]
  loaded = saved_and_loaded(model, tmp_path / "file", way)
  assert isinstance(loaded["layers"][1], Absent) and "custom_jvp" in loaded["layers"][1].kind
  assert loaded["label"] == Absent("builtins.str") and loaded["layers"][2]["bias"] is None
  assert len(jax.tree.leaves(loaded)) == 6  # three weights, a scale, Dropout's p and inference
  again = saved_and_loaded(loaded, tmp_path / "again", way, like=model)
  trees.same(again, model)
  assert again.label == "small" and again.dropout.inference is True
  np.testing.assert_array_equal(again(jnp.ones(4)), model(jnp.ones(4)))


def test_arrays_may_be_filtered_first(tmp_path):
  model = KINDS["equinox"]
  loaded = saved_and_loaded(eqx.filter(model, eqx.is_array), tmp_path / "file", cj.artifact,
                            like=eqx.filter_eval_shape(lambda: model))
  np.testing.assert_array_equal(loaded(jnp.ones(4)), model(jnp.ones(4)))


def test_compressed_leaves_come_back_in_the_kind_of_the_dense_model(tmp_path):
  model = KINDS["nnx_state"]
  params = cj.quantize.affine(cj.prune.magnitude(model, 0.5), 4)
  cj.artifact.save(tmp_path / "m.cjx", params)
  for like in (model, params, jax.eval_shape(lambda: model)):
    loaded = cj.artifact.load(tmp_path / "m.cjx", like=like)[0]
    assert type(loaded) is type(model)
    assert isinstance(loaded["layers"][0]["kernel"].get_value(), cj.Quantized)
    trees.same(loaded, cj.freeze(params))


DIFFERENT = {
    "shape": ({"a": jnp.ones(2), "b": {"c": jnp.ones(3)}},
              r"b/c: the file has an array of shape \(4, 4\), like= has an array of shape \(3,\)"),
    "missing": ({"a": jnp.ones(2), "b": {"c": jnp.ones((4, 4)), "d": jnp.ones(1)}},
                r"b/d: the file has nothing, like= has an array of shape \(1,\)"),
    "more": ({"a": jnp.ones(2), "b": {}}, r"b/c: the file has an array .*, like= has nothing"),
    "container": ({"a": jnp.ones(2), "b": jnp.ones((4, 4))},
                  r"b: the file has a dict of c, like= has an array of shape \(4, 4\)"),
    "array": ({"a": [jnp.ones(2)], "b": {"c": jnp.ones((4, 4))}},
              r"a: the file has an array of shape \(2,\), like= has a list of 0"),
    "function": ({"a": abs, "b": {"c": jnp.ones((4, 4))}},
                 r"a: the file has an array .*, like= has a builtin_function_or_method"),
    "none": ({"a": None, "b": {"c": jnp.ones((4, 4))}}, r"a: the file has .*, like= has None")}


@WAYS
@pytest.mark.parametrize("case", DIFFERENT)
def test_a_mismatch_names_the_first_path_that_differs(case, way, tmp_path):
  like, message = DIFFERENT[case]
  way.save(tmp_path / "file", {"a": jnp.ones(2), "b": {"c": trees.w()}})
  with pytest.raises(ValueError, match="file.*: " + message + ".*; must have the same structure"):
    way.load(tmp_path / "file", like=like)


def test_a_function_is_no_array(tmp_path):
  cj.artifact.save(tmp_path / "file", trees.Layer(abs, None))
  message = r"w: the file has no array \(when it was written, a builtins.builtin_function"
  with pytest.raises(ValueError, match=message):
    cj.artifact.load(tmp_path / "file", like=trees.Layer(jnp.ones(2), None))


@pytest.mark.parametrize("tree, message", [
    ({b"a": jnp.ones(1)}, "key b'a': must be a string, a number"),
    ({"x": {1: jnp.ones(1), "a": jnp.ones(1)}}, "keys that cannot be compared"),
    ({"x": {float("inf"): jnp.ones(1)}}, "x: key inf: must be"),
    (FrozenDict({"w": "text"}), "w: a str cannot be stored"),
    ([np.array(["text"])], "0: a ndarray cannot be stored")])
def test_what_no_file_can_hold_is_refused(tree, message):
  for way in (cj.artifact.encode, describe):
    with pytest.raises(ValueError, match=message):
      way(tree)


def test_plain_trees_have_the_structure_that_they_had():
  tree = {"a": [jnp.ones(2), (jnp.zeros((0, 3), jnp.int8), None)], "b": {}, "c": ()}
  assert json.dumps(describe(tree)[0]) == json.dumps({"dict": {
      "a": {"list": [{"array": "a/0", "shape": [2], "dtype": "float32"},
                     {"tuple": [{"array": "a/1/0", "shape": [0, 3], "dtype": "int8"},
                                {"none": True}]}]},
      "b": {"dict": {}}, "c": {"tuple": []}}})


def test_a_process_without_the_class_reads_it(tmp_path):
  cj.artifact.save(tmp_path / "m.cjx", KINDS["frozen_dict"])
  code = ("import sys, compress_jax as cj; loaded = cj.artifact.load(sys.argv[1])[0]; "
          "print(type(loaded).__name__, 'flax' in sys.modules)")
  out = subprocess.run([sys.executable, "-c", code, tmp_path / "m.cjx"], check=True, text=True,
                       capture_output=True, cwd=Path(__file__).parents[2]).stdout
  assert out.split() == ["dict", "False"]


def test_summaries_give_each_array_its_own_name():
  found = leaf_summary.summarize(KINDS["fields_and_slashes"])
  assert [leaf.path for leaf in found] == ["w", "w/mask#2", "w/value#2"]
  assert found[0].kind == "Masked"


@pytest.mark.parametrize("dtype", [">f4", ">i4", ">u2", ">f8"])
@WAYS
def test_numbers_of_other_machines_come_back_as_the_same_numbers(way, dtype, tmp_path):
  tree = {"w": np.array([1, 2, 300], dtype)}
  np.testing.assert_array_equal(saved_and_loaded(tree, tmp_path / "file", way)["w"], tree["w"])
