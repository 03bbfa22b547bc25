"""Every dtype that can be saved comes back as it was; any other is refused before it is saved."""

import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import compress_jax as cj
from compress_jax.io import manifest, structure

EVERY = {np.dtype(kind).name: np.dtype(kind) for kind in (
    *np.sctypeDict.values(),
    *(found for found in vars(ml_dtypes).values() if isinstance(found, type)))}
NUMBERS = {name: dtype for name, dtype in EVERY.items() if dtype.kind not in "OUSMm"
           and not (dtype.kind == "V" and not dtype.itemsize)}
STRANGE = [name for name in ("float128", "complex256", "float96", "complex192", "complex32",
                             "bcomplex32", "int1", "uint1") if name in NUMBERS]
SAVES = {"artifact": cj.artifact, "checkpoint": cj.checkpoint}


@pytest.mark.parametrize("kind", SAVES)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_dtype_comes_back_or_is_refused_when_it_is_saved(name, kind, tmp_path):
  x = np.ones((2, 3), NUMBERS[name])
  try:
    SAVES[kind].save(tmp_path / "file", {"w": x})
  except ValueError as error:
    assert str(error).startswith("w: ") and name in str(error) and "must be" in str(error)
    assert not list(tmp_path.iterdir())
    return
  assert name not in STRANGE
  found = np.asarray(SAVES[kind].load(tmp_path / "file")[0]["w"])
  assert found.dtype == x.dtype and found.tobytes() == x.tobytes()


@pytest.mark.parametrize("kind", SAVES)
@pytest.mark.parametrize("name", STRANGE)
def test_what_jax_has_no_arrays_of_is_refused_by_its_path(name, kind, tmp_path):
  for tree in ({"a": [np.ones(2, NUMBERS[name])]}, {"a": [np.ones((0, 2), NUMBERS[name])]}):
    with pytest.raises(ValueError, match=f"^a/0: dtype '{name}'; must be bool, integers"):
      SAVES[kind].save(tmp_path / "file", tree)


def test_what_an_earlier_version_saved_of_such_a_dtype_is_refused_in_words(tmp_path):
  x = np.ones(2, ml_dtypes.complex32) if "complex32" in STRANGE else np.ones(2, np.longdouble)
  cj.checkpoint.save(tmp_path / "step", {"w": x.view(np.uint8).reshape(2, -1)})
  known = json.loads((tmp_path / "step" / "manifest.json").read_text())
  known["structure"]["dict"]["w"] |= {"dtype": x.dtype.name, "shape": [2]}
  known["checksums"]["w"] = manifest.checksum(x)
  del known["checksum"]
  (tmp_path / "step" / "manifest.json").write_text(json.dumps(known))
  with pytest.raises(cj.checkpoint.CheckpointError, match=f"w: dtype '{x.dtype.name}'; must be"):
    cj.checkpoint.load(tmp_path / "step")


def test_the_least_bits_that_jax_has_are_taken():
  for dtype in ("bool", "int2", "uint4", "float8_e4m3fn", "bfloat16", "complex64"):
    structure.describe({"w": jnp.zeros(2, dtype)})
