"""Ten thousand damaged and hostile files: an error or the right weights, nothing else."""

import json
import random
import struct
import tracemalloc
import zlib
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from compress_jax.io import container
from compress_jax.io.structure import Absent
from tests.io import hostile
from tests.io.trees import same

W = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
PARAMS = cj.freeze({
    "a": cj.quantize.affine(cj.prune.magnitude({"w": W}, 0.5), 4, symmetric=False)["w"],
    "b": cj.prune.magnitude({"w": W}, 0.5)["w"], "c": cj.quantize.cluster({"w": W}, 3)["w"],
    "d": cj.prune.block({"w": W}, 0.5, block=(2, 2))["w"], "e": [W[0], jnp.arange(3)]})
# Every other way to describe a container, and what is not an array.
PARAMS |= {"f": OrderedDict(z=W[0], a={2: W[1], 1: {("x", 3): W[2]}}),
           "g": {"key": jax.random.key(0), "function": Absent("builtins.function")}}
DATA = cj.artifact.encode(PARAMS, name="m")
HEADER, BODY = container.unpack(DATA)
HOSTILE = 1500


def mutated(data, rng):
  """Returns the bytes with a few bits flipped, cut, overwritten, or pieces moved."""
  out, at = bytearray(data), rng.randrange(len(data))
  kind = rng.randrange(6)
  if kind == 0:
    for _ in range(rng.choice([1, 1, 2, 5])):
      out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
  elif kind == 1:
    del out[at:]
  elif kind == 2:
    out[at:at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
  elif kind == 3:
    start = rng.randrange(len(out))
    out[at:at] = out[start:start + rng.randrange(1, 50)]
  elif kind == 4:
    del out[at:at + rng.randrange(1, 9)]
  else:
    out = bytearray(rng.randbytes(rng.randrange(80)))
  return bytes(out)


def outcome(data):
  """Returns what decoding gives, None for a refusal; anything else raised is a failure."""
  try:
    return cj.artifact.decode(data)
  except cj.artifact.ArtifactError as error:
    assert str(error)
    return None


def test_damaged_files():
  rng = random.Random(0)
  for _ in range(10_000 - HOSTILE):
    found = outcome(mutated(DATA, rng))
    if found is not None:  # the mutation changed nothing
      same(found[0], PARAMS)


def framed(header, body):
  text = zlib.compress(header, 1, wbits=-15)
  rest = struct.pack("<I", len(text)) + text + body
  return b"CJX2" + struct.pack("<I", zlib.crc32(rest)) + rest


def swapped(value, rng):
  """Returns a JSON value of which one part has become something else."""
  if isinstance(value, dict | list) and value and rng.random() < 0.9:
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, out = rng.choice(list(keys)), value.copy()
    out[key] = swapped(value[key], rng)
    return out
  return rng.choice([None, True, -1, 0, 3, 2**31, 2**62, 10**30, 0.5, "", "int8", "float32", "none",
                     "a/integers", "b/mask", [], [1], [2**40, 2**40], {}, {"none": True},
                     {"leaf": "Quantized"}, float("nan"), "collections.OrderedDict", "os.system",
                     "rbg", {"items": [[1, {"none": True}], [True, {"none": True}]]},
                     {"items": [[{}, {"none": True}]]}, {"dict": {}, "type": [], "list": []}])


def test_hostile_files():
  """Checksums are right; what lies under them is not."""
  rng = random.Random(1)
  text = json.dumps(HEADER).encode()
  for i in range(HOSTILE):
    header, body = text, BODY
    if i % 3 == 0:
      body = mutated(BODY, rng)
    elif i % 3 == 1:
      header = json.dumps(swapped(HEADER, rng)).encode()
    else:
      header = mutated(text, rng)
    found = outcome(framed(header, body))
    if found is not None:
      cj.artifact.encode(found[0])  # well-formed: it can be written again
      if i % 3 == 0:
        same(found[0], PARAMS)  # the arrays have checksums of their own


KEYS = {"array": "", "shape": [2], "dtype": "uint32", "prng": "threefry2x32"}


@pytest.mark.parametrize("structure", [
    {"dict": {"": KEYS}, "type": 3}, {"dict": {"": KEYS}, "class": "Model"},
    {"dict": {"": KEYS}, "list": []}, {"items": [["a", KEYS]]}, {"items": [[[["a"], {}], KEYS]]},
    {"items": [[1, {"none": True}], [True, KEYS]]}, {"items": [[1, {"none": True}], ["a", KEYS]]},
    {"items": {"ab": KEYS}}, {"items": [[1]]}, KEYS | {"prng": "os.system"}, KEYS | {"prng": None},
    KEYS | {"prng": "rbg"}, KEYS | {"dtype": "int32"},
    {"leaf": "Absent", "static": {"kind": 3}, "fields": {}},
    {"leaf": "Absent", "static": {"kind": "m"}, "fields": {"w": KEYS}}], ids=str)
def test_hostile_containers_and_keys_are_refused(structure):
  good, body = container.unpack(cj.artifact.encode(jax.random.key(0)))
  assert good["structure"] == KEYS
  header = json.dumps(good | {"structure": structure}).encode()
  with pytest.raises(cj.artifact.ArtifactError):
    cj.artifact.decode(framed(header, body))


@pytest.mark.parametrize("shape", [[2**62], [2**31, 2**31], [2**28], [0, 2**62], [1] * 40])
def test_claims_of_size_are_refused_before_memory_is_taken(shape):
  header = {"structure": {"array": "", "shape": shape, "dtype": "float32"}, "metadata": {},
            "entries": {"": [1, 0]}, "keep": {}, "base": {}}
  with pytest.raises(cj.artifact.ArtifactError):
    cj.artifact.decode(framed(json.dumps(header).encode(), b"m"))


@pytest.mark.parametrize("leaf", [hostile.HUGE, hostile.HUGE_ROUNDED], ids=["blocks", "rounded"])
def test_a_leaf_of_few_bytes_takes_few_whatever_it_stands_for(leaf):
  data = hostile.artifact_of(leaf)
  tracemalloc.start()
  try:
    found = cj.artifact.decode(data)[0]["w"]
    assert tracemalloc.get_traced_memory()[1] < 2**23
  finally:
    tracemalloc.stop()
  assert found.shape == (60_000_000, 64) and len(data) < 500


def test_the_caller_may_set_a_limit():
  with pytest.raises(cj.artifact.ArtifactError, match="max_bytes is 100"):
    cj.artifact.decode(DATA, max_bytes=100)


def test_deep_structures_are_refused():
  deep = '{"structure":' + '{"list":[' * 5000 + "]}" * 5000 + "}"
  with pytest.raises(cj.artifact.ArtifactError):
    cj.artifact.decode(framed(deep.encode(), b""))
