"""The zoo: parameter counts, shapes, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from experiments import models
from experiments.models import pooling
from experiments.models.layers import ConvNorm
from experiments.models.students import STUDENTS
from experiments.training import loop
from experiments.training.augment import normalize


def count(name, shape, num_classes=10, **arguments):
  model = models.create(name, num_classes=num_classes, **arguments)
  init = lambda: model.init(jax.random.key(0), jnp.ones((1, *shape)), train=False)
  return sum(x.size for x in jax.tree.leaves(jax.eval_shape(init)["params"]))


def test_airnet_has_the_published_parameters():
  convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
  assert count("airnet", (32, 32, 3)) == convolutions + 288 + 24 + 2 * 576 + 2560


def test_airnets_first_layer_whitens_and_never_trains():
  model = models.create("airnet", num_classes=10, widths=(4, 8))
  images = np.random.default_rng(0).integers(0, 99, (64, 9, 9, 1)).cumsum(1).astype(np.uint8)
  variables = model.fitted(loop.initial(model, (9, 9, 1), 0), images)
  kernel = variables["params"]["whiten"]["kernel"]
  out = jax.lax.conv_general_dilated(normalize(jnp.asarray(images)), kernel, (1, 1), "VALID",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
  half = np.asarray(out[..., :4]).reshape(-1, 4)
  np.testing.assert_allclose(half.T @ half / len(half), np.eye(4), atol=0.02)
  np.testing.assert_array_equal(out[..., 4:], -out[..., :4])
  state = loop.start_state(variables, frozen=loop.frozen_of(model))
  assert state["trainable"]["whiten"]["kernel"] is None
  assert state["trainable"]["whiten"]["bias"] is not None


def test_densenet_40_is_the_standard_one_with_its_norms_behind_the_convolutions():
  # Huang et al.: 1,019,722 with 18,096 norm parameters before the convolutions; here 1,824 behind.
  assert count("densenet", (32, 32, 3)) == 1_019_722 - 18_096 + 1_824


def test_convnet_has_three_convolutions_and_three_linear_layers():
  convolutions = 27 * 16 + 9 * 16 * 32 + 9 * 32 * 64 + 2 * (16 + 32 + 64)
  assert count("convnet", (32, 32, 3)) == convolutions + 1024 * 128 + 128 * 64 + 64 * 10 + 10


def test_vgg_16_is_the_usual_one_without_biases_in_front_of_norms():
  # Simonyan and Zisserman's configuration D on 32 x 32, with norms: 14,728,266.
  assert count("vgg", (32, 32, 3)) == 14_728_266 - 4_224


def test_the_evaluation_papers_models():
  assert count("cnn", (28, 28, 1)) == 20_410
  assert count("alexnet", (32, 32, 3)) == 58_322_314  # the paper: "over 58M"


def test_resnets_are_the_usual_ones():
  assert count("resnet18", (32, 32, 3)) == 11_173_962
  assert count("resnet50", (64, 64, 3), 1000) == 25_557_032
  assert count("resnet18", (64, 64, 3), 1000, stem="large") == 11_689_512  # torchvision's


def test_the_comparative_papers_models():
  assert count("resnet50", (64, 64, 3), 525) == 24_583_757
  assert count("squeezenet", (64, 64, 3), 525) == 1_004_749
  assert count("squeezenet", (64, 64, 3), 1000) == 1_248_424  # torchvision's
  assert count("studentnet", (64, 64, 3), 525) == 281_613


def test_the_analysis_papers_students():
  counts = {name: count("student", (32, 32, 3), **a) for name, a in STUDENTS.items()}
  assert counts["combined"] == pytest.approx(357_500, abs=50)
  thousands = [round(counts[name] / 1000) for name in STUDENTS if name != "combined"]
  assert thousands == [654, 399, 376, 279, 253, 187, 191]
  # What the text says of them: convolutions, linear layers before the last.
  assert [(len(a["channels"]), len(a["hidden"])) for a in STUDENTS.values()] == [
      (4, 1), (4, 0), (4, 1), (6, 0), (4, 1), (5, 0), (6, 0), (3, 1)]


# Few different shapes: each is compiled for.
TINY = {
    "resnet18": {"stages": (1, 1), "width": 4, "stem": "large"},
    "resnet50": {"stages": (1, 1), "width": 4, "stem": "small"},
    "squeezenet": {"stem": 4, "groups": (((4, 4),), ((4, 4),))},
    "student": {"channels": (4, 6), "hidden": (8,), "pools": 2},
    "studentnet": {"channels": (4, 6, 6)},
    "airnet": {"widths": (4, 6)}}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)


def tiny(name, **more):
  """Returns (model, variables) with every value random."""
  model = models.create(name, num_classes=10, **TINY[name], **more)
  rng = np.random.default_rng(1)
  value = lambda s: np.float32(abs(rng.normal(size=s.shape)) if s.ndim == 1 else
                               rng.normal(size=s.shape) / 4)
  return model, jax.tree.map(value, jax.eval_shape(model.init, jax.random.key(0), IMAGES))


@pytest.mark.parametrize("name", TINY)
def test_a_training_step_keeps_the_variables(name):
  model, variables = tiny(name)

  def step(variables, key):
    def loss(params):
      logits, new = model.apply({**variables, "params": params}, IMAGES, train=True,
                                mutable=["batch_stats"], rngs={"dropout": key})
      return (logits**2).mean(), new
    grads, new = jax.grad(loss, has_aux=True)(variables["params"])
    return {"params": grads, **new}

  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(jax.eval_shape(step, variables, jax.random.key(0))) == shapes(variables)
  assert ("batch_stats" in variables) == (name != "squeezenet")


# The others' parts are VGG's.
@pytest.mark.parametrize("name", ["resnet18", "squeezenet", "airnet"])
def test_folded_and_quantized_they_run_in_integers(name):
  model, variables = tiny(name)
  params = variables["params"]
  if "batch_stats" in variables:
    expected = jax.jit(model.apply)(variables, IMAGES)
    model, folded = tiny(name, folded=True)
    params = cj.fold.batch_norm(params, variables["batch_stats"])
    assert jax.tree.structure(params) == jax.tree.structure(folded["params"])
    np.testing.assert_allclose(jax.jit(model.apply)({"params": params}, IMAGES), expected,
                               rtol=1e-4, atol=1e-4)
  apply = lambda params, x: model.apply({"params": params}, x, train=False)
  fake = jax.jit(lambda params: cj.quantize.affine(params, 8))(params)
  fake = cj.quantize.calibrate(apply, fake, [jnp.asarray(IMAGES)])
  lifted = jax.jit(cj.lift(apply))
  logits = lifted(cj.freeze(fake), IMAGES)
  assert len(np.unique(logits)) > 10
  np.testing.assert_array_equal(logits, lifted(fake, IMAGES))


def test_strides_start_where_pytorchs_do():
  # PyTorch pads both sides; "SAME" with stride 2 would pad only the far one.
  impulse = jnp.zeros((1, 8, 8, 1)).at[0, 0, 0].set(1)
  layer = ConvNorm(1, stride=2, folded=True)
  kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
  variables = {"params": {"conv": {"kernel": kernel, "bias": jnp.zeros(1)}}}
  assert float(layer.apply(variables, impulse, False)[0, 0, 0, 0]) == 4  # the kernel's middle


@pytest.mark.parametrize("side", [4, 7])
def test_pools_are_those_of_windows(side):
  from flax import linen as nn
  x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
  np.testing.assert_allclose(pooling.avg_pool(x), nn.avg_pool(x, (2, 2), (2, 2)), rtol=1e-6)
  np.testing.assert_array_equal(pooling.max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
  # No two of these pixels are equal, so there is one gradient.
  gradient = lambda f: jax.grad(lambda x: (f(x)**3).sum())(x)
  np.testing.assert_allclose(gradient(pooling.max_pool),
                             gradient(lambda x: nn.max_pool(x, (2, 2), (2, 2))), rtol=1e-6)


@pytest.mark.parametrize("name,arguments,message", [
    ("resnet", {}, "model 'resnet': must be one of airnet, alexnet, cnn, .*resnet18"),
    ("densenet", {"width": 3}, "argument 'width' must be one of.*depth")])
def test_bad_input_is_named(name, arguments, message):
  with pytest.raises(ValueError, match=message):
    models.create(name, num_classes=10, **arguments)


def test_a_resnets_unknown_parts_are_named():
  model = models.create("resnet18", num_classes=10, block="wide")
  with pytest.raises(ValueError, match="block='wide': must be one of basic, bottleneck"):
    model.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
