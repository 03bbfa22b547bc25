"""torchvision's weights: the same outputs layer by layer, and files that are refused."""

import collections
import os
import pickle
import types
import zipfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from experiments import models
from experiments.models import pretrained, torch_file

RESNETS = {
    "resnet18": {"stages": (2, 1), "width": 4, "stem": "large"},
    "resnet50": {"stages": (1, 2), "width": 4}}
GROUPS = (((2, 4), (2, 4)), ((3, 4),))


def create(name, classes=5, **more):
  arguments = {"stem": 6, "groups": GROUPS} if name == "squeezenet" else RESNETS[name]
  return models.create(name, num_classes=classes, standardize=True, **arguments, **more)


# What torchvision would save, by its own rules: written down here a second time.


def resnet_state(rng, stages, width, bottleneck, classes=5):
  state = {}

  def conv_norm(conv, norm, into, out, side):
    state[f"{conv}.weight"] = rng.normal(size=(out, into, side, side)) / side / np.sqrt(into)
    for field in ("weight", "bias", "running_mean"):
      state[f"{norm}.{field}"] = rng.normal(size=out)
    state[f"{norm}.running_var"] = rng.uniform(0.5, 2, out)
    state[f"{norm}.num_batches_tracked"] = np.array(7)

  conv_norm("conv1", "bn1", 3, width, 7)
  into = width
  for i, blocks in enumerate(stages, 1):
    for j in range(blocks):
      p, n = f"layer{i}.{j}", width * 2**(i - 1)
      shapes = [(n, 1), (n, 3), (4 * n, 1)] if bottleneck else [(n, 3), (n, 3)]
      if into != shapes[-1][0]:
        conv_norm(f"{p}.downsample.0", f"{p}.downsample.1", into, shapes[-1][0], 1)
      for k, (out, side) in enumerate(shapes, 1):
        conv_norm(f"{p}.conv{k}", f"{p}.bn{k}", into, out, side)
        into = out
  state["fc.weight"], state["fc.bias"] = rng.normal(size=(classes, into)), rng.normal(size=classes)
  return {k: np.asarray(v, np.int64 if k.endswith("tracked") else np.float32)
          for k, v in state.items()}


# Places in `features` of the fires of GROUPS: 0 and 1 are the stem, 2 and 5 poolings.
FIRES = {3: (6, 2, 4), 4: (8, 2, 4), 6: (8, 3, 4)}


def squeezenet_state(rng, classes=5):
  layers = {"features.0": (6, 3, 7), "classifier.1": (classes, 8, 1)}
  for at, (into, squeeze, expand) in FIRES.items():
    layers |= {f"features.{at}.squeeze": (squeeze, into, 1),
               f"features.{at}.expand1x1": (expand, squeeze, 1),
               f"features.{at}.expand3x3": (expand, squeeze, 3)}
  state = {}
  for name, (out, into, side) in layers.items():
    state[f"{name}.weight"] = rng.normal(size=(out, into, side, side)) / side / np.sqrt(into)
    state[f"{name}.bias"] = rng.normal(size=out)
  return {name: np.float32(x) for name, x in state.items()}


def state_of(name, classes=5):
  rng = np.random.default_rng(0)
  if name == "squeezenet":
    return squeezenet_state(rng, classes)
  shape = RESNETS[name]
  return resnet_state(rng, shape["stages"], shape["width"], name == "resnet50", classes)


# A second implementation: NumPy, NCHW, on torchvision's names.


def windows(x, side, stride):
  seen = np.lib.stride_tricks.sliding_window_view(x, (side, side), (2, 3))
  return seen[:, :, ::stride, ::stride]


def conv(x, weight, stride=1, pad=0):
  x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
  return np.einsum("nchwij,ocij->nohw", windows(x, weight.shape[-1], stride), weight)


def pooled(x, low, high):
  x = np.pad(x, ((0, 0), (0, 0), (low, high), (low, high)), constant_values=-np.inf)
  return windows(x, 3, 2).max((-1, -2))


def channels(x):
  return x[:, None, None]


def resnet_outputs(state, x, stages, bottleneck):
  """Yields (our name, output) of the stem and every block, then the logits."""
  def conv_norm(x, conv_name, norm, stride=1):
    weight = state[f"{conv_name}.weight"]
    x = conv(x, weight, stride, weight.shape[-1] // 2)
    g, b, m, v = (channels(state[f"{norm}.{f}"])
                  for f in ("weight", "bias", "running_mean", "running_var"))
    return (x - m) / np.sqrt(v + 1e-5) * g + b

  x = np.maximum(conv_norm(x, "conv1", "bn1", 2), 0)
  yield "stem", x
  x = pooled(x, 1, 1)
  for i, blocks in enumerate(stages, 1):
    for j in range(blocks):
      p, stride, y = f"layer{i}.{j}", 2 if i > 1 and j == 0 else 1, x
      last = 3 if bottleneck else 2
      for k in range(1, last + 1):
        y = conv_norm(y, f"{p}.conv{k}", f"{p}.bn{k}", stride if k == last - 1 else 1)
        y = np.maximum(y, 0) if k < last else y
      if f"{p}.downsample.0.weight" in state:
        x = conv_norm(x, f"{p}.downsample.0", f"{p}.downsample.1", stride)
      x = np.maximum(x + y, 0)
      yield f"stage{i - 1}_block{j}", x
  yield "", x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def squeezenet_outputs(state, x):
  layer = lambda x, name, stride=1, pad=0: conv(x, state[f"{name}.weight"], stride, pad) + channels(
      state[f"{name}.bias"])
  relu = lambda x: np.maximum(x, 0)
  x = layer(x, "features.0", 2)
  yield "stem", x
  x = relu(x)
  for at, ours in zip(FIRES, ("group0_fire0", "group0_fire1", "group1_fire0"), strict=True):
    x = pooled(x, 0, 1 - x.shape[-1] % 2) if at in (3, 6) else x
    p = f"features.{at}"
    squeezed = relu(layer(x, f"{p}.squeeze"))
    x = relu(np.concatenate([layer(squeezed, f"{p}.expand1x1"),
                             layer(squeezed, f"{p}.expand3x3", 1, 1)], 1))
    yield ours, x
  yield "", relu(layer(x, "classifier.1")).mean((2, 3))


def standardized(images):
  mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  return (((images + 1) / 2 - mean) / deviation).transpose(0, 3, 1, 2)


# What torch.save writes: a pickle that names PyTorch's functions, and a file a storage.

KINDS = {"float32": "FloatStorage", "int64": "LongStorage", "bfloat16": "BFloat16Storage",
         "float16": "HalfStorage"}


def stand_in(module, name):
  """Returns a function that pickles as torch's would."""
  def called(*_):
    raise AssertionError("never called")
  called.__module__, called.__qualname__, called.__name__ = module, name, name
  return called


class Tensor:
  def __init__(self, storage, shape, strides):
    self.arguments = (storage, 0, shape, strides, False, collections.OrderedDict())

  def __reduce__(self):
    return NAMED["torch._utils"]._rebuild_tensor_v2, self.arguments


class Storage:
  def __init__(self, kind, key, count):
    self.pid = ("storage", getattr(NAMED["torch"], kind), key, "cpu", count)


class Pickler(pickle.Pickler):
  def persistent_id(self, obj):
    return obj.pid if isinstance(obj, Storage) else None


NAMED = {module: types.SimpleNamespace(**{name: stand_in(module, name) for name in names})
         for module, names in (("torch", KINDS.values()),
                               ("torch._utils", ["_rebuild_tensor_v2", "_rebuild_tensor"]))}


def write(path, tree, data=(), byteorder="little", compression=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, "w", compression) as archive, \
      mock.patch.dict("sys.modules", NAMED), archive.open("model/data.pkl", "w") as file:
    Pickler(file, 2).dump(tree)
  with zipfile.ZipFile(path, "a", compression) as archive:
    archive.writestr("model/byteorder", byteorder)
    for key, content in enumerate(data):
      archive.writestr(f"model/data/{key}", content)
  return path


def save(path, state, **how):
  tree, data = collections.OrderedDict(), []
  for name, x in state.items():
    strides = tuple(s // x.itemsize for s in x.strides)
    tree[name] = Tensor(Storage(KINDS[x.dtype.name], str(len(data)), x.size), x.shape, strides)
    data.append(x.tobytes("A"))
  tree._metadata = collections.OrderedDict({"": {"version": 1}})
  return write(path, tree, data, **how)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet"])
def test_layer_by_layer_the_outputs_are_torchvisions(name, tmp_path):
  state = state_of(name)
  save_file(state, tmp_path / "w.safetensors")
  save(tmp_path / "w.pth", state)
  model = create(name)
  loaded = pretrained.load(tmp_path / "w.pth", model)
  assert loaded.fresh == ()
  also = pretrained.load(tmp_path / "w.safetensors", model).variables
  for ours, other in zip(*map(jax.tree.leaves, (loaded.variables, also)), strict=True):
    np.testing.assert_array_equal(ours, other)
  images = np.float32(np.random.default_rng(1).uniform(-1, 1, (2, 33, 33, 3)))
  run = jax.jit(lambda v, x: model.apply(v, x, capture_intermediates=True,
                                         mutable=["intermediates"])[1]["intermediates"])
  seen = {"/".join(k[:-1]): v[0] for k, v in flatten_dict(run(loaded.variables, images)).items()}
  inputs = standardized(images)
  expected = list(squeezenet_outputs(state, inputs) if name == "squeezenet" else resnet_outputs(
      state, inputs, RESNETS[name]["stages"], name == "resnet50"))
  assert len(expected) == 5
  for layer, value in expected:
    value = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
    np.testing.assert_allclose(seen[layer], value, rtol=2e-4, atol=2e-4, err_msg=layer)
  assert np.abs(expected[-1][1]).max() > 0.1


@pytest.mark.parametrize("name", ["resnet18", "squeezenet"])
def test_another_number_of_classes_takes_a_fresh_head(name, tmp_path):
  path = save(tmp_path / "w.pth", state_of(name, classes=7))
  with pytest.raises(ValueError, match=r"tensors of another shape: \S+\.bias .*\.weight \("):
    pretrained.load(path, create(name))
  loaded = pretrained.load(path, create(name), head_key=jax.random.key(0))
  assert sorted(loaded.fresh) == ["head/bias", "head/kernel"]
  head = loaded.variables["params"]["head"]
  assert head["kernel"].shape[-1] == head["bias"].shape[0] == 5
  assert 0.1 < np.std(head["kernel"]) * np.sqrt(head["kernel"].shape[-2]) < 2
  assert pretrained.load(path, create(name, classes=7), head_key=jax.random.key(0)).fresh == ()


@pytest.mark.parametrize("name,last", [("resnet50", "layer4.2.bn3.running_var"),
                                       ("squeezenet", "features.12.expand3x3.bias")])
def test_names_of_full_sizes_are_torchvisions(name, last):
  model = models.create(name, num_classes=1000)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
  names = {pretrained.torch_name(model, at) for at in flatten_dict(shapes)}
  # torchvision's state dicts have 320 and 52 entries, 53 of them counters of ResNet-50's norms.
  assert len(names) == {"resnet50": 320 - 53, "squeezenet": 52}[name]
  assert last in names


def test_wrong_tensors_are_named(tmp_path):
  state = state_of("squeezenet")
  state["features.9.weight"] = state.pop("features.3.squeeze.weight")
  state["features.0.bias"] = state["features.0.bias"][:3]
  path = save(tmp_path / "w.pth", state)
  with pytest.raises(ValueError, match=r"missing: features.3.squeeze.weight; unexpected: "
                     r"features.9.weight; of another shape: features.0.bias \(as ours \(3,\)"):
    pretrained.load(path, create("squeezenet"), head_key=jax.random.key(0))
  with pytest.raises(ValueError, match="model=CNN: must be a ResNet or SqueezeNet"):
    pretrained.load(path, models.create("cnn", num_classes=2))


def test_other_dtypes_and_strides_are_read(tmp_path):
  state = {"bf": np.arange(6.0).reshape(2, 3).astype(jnp.bfloat16),
           "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
           "half": np.ones((), np.float16), "empty": np.zeros((0, 3), np.float32)}
  read = torch_file.read(save(tmp_path / "w.pth", state))
  for name, x in state.items():
    assert read[name].dtype == x.dtype
    np.testing.assert_array_equal(read[name], x)


class Evil:
  def __init__(self, module, name, *arguments):
    self.made = getattr(NAMED.get(module) or __import__(module), name), arguments

  def __reduce__(self):
    return self.made


@pytest.mark.parametrize("module,name,refused", [
    ("os", "system", f"{os.name}.system"), ("builtins", "eval", "__builtin__.eval"),
    ("torch._utils", "_rebuild_tensor", "torch._utils._rebuild_tensor")])
def test_other_functions_in_a_pickle_are_refused_and_not_run(module, name, refused, tmp_path):
  marker = tmp_path / "ran"
  command = f"touch {marker}" if name == "system" else f"open({str(marker)!r}, 'w')"
  path = write(tmp_path / "w.pth", {"w": Evil(module, name, command)})
  if module not in NAMED:  # Python's own reader does run it.
    with zipfile.ZipFile(path) as archive:
      pickle.loads(archive.read("model/data.pkl"))
    assert marker.exists()
    marker.unlink()
  with pytest.raises(ValueError, match=f"{refused} in its pickle: must be what state dicts"):
    torch_file.read(path)
  assert not marker.exists()


FLOATS = np.zeros(4, np.float32).tobytes()


@pytest.mark.parametrize("tree,message", [
    ({"w": Tensor(Storage("FloatStorage", "0", 4), (5,), (1,))}, "leaves its storage"),
    ({"w": Tensor(Storage("FloatStorage", "0", 4), (1 << 40,), (0,))}, "leaves its storage"),
    ({"w": Tensor(Storage("FloatStorage", "0", 4), (2,), (-1,))}, "tensor of another kind"),
    ({"w": Tensor(Storage("FloatStorage", "0", 5), (4,), (1,))}, "4 elements where 5"),
    ({"w": Tensor(Storage("FloatStorage", "9", 4), (4,), (1,))}, "damaged .*data/9"),
    ({"w": 3}, "'w' is a int; a state dict has tensors"),
    ([1], "holds a list; must be a state dict")])
def test_what_is_no_state_dict_is_refused(tree, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    torch_file.read(write(tmp_path / "w.pth", tree, [FLOATS]))


def test_other_files_are_refused(tmp_path):
  path, state = tmp_path / "w.pth", {"w": np.ones(3, np.float32)}
  path.write_bytes(pickle.dumps(0x1950a86a20f9469cfc6c, 2))
  with pytest.raises(ValueError, match="not a zip file, which torch.save writes since"):
    torch_file.read(path)
  with pytest.raises(ValueError, match="byteorder=b'big'"):
    torch_file.read(save(path, state, byteorder="big"))
  with pytest.raises(ValueError, match="is compressed"):
    torch_file.read(save(path, state, compression=zipfile.ZIP_DEFLATED))
  save(path, state)
  path.write_bytes(path.read_bytes().replace(np.ones(3, np.float32).tobytes(), b"x" * 12))
  with pytest.raises(ValueError, match="damaged .*CRC"):
    torch_file.read(path)
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("other", "")
  with pytest.raises(ValueError, match="no data.pkl"):
    torch_file.read(path)
  other = tmp_path / "w.safetensors"
  other.write_bytes(b"no header")
  with pytest.raises(ValueError, match="not a safetensors file"):
    pretrained.read(other)
  with pytest.raises(FileNotFoundError):
    torch_file.read(tmp_path / "none.pth")
