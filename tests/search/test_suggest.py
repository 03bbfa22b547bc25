"""The search: against brute force, within limits, and what it says where nothing fits."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from compress_jax.search import Choice, Limits, predictions

KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {"a": {"kernel": jax.random.normal(KEYS[0], (24, 16)), "bias": jnp.ones(16)},
          "b": {"kernel": jax.random.normal(KEYS[1], (16, 24))},
          "c": {"kernel": jax.random.normal(KEYS[2], (24, 16))}}
WEIGHTS = {"a/kernel": 1.0, "b/kernel": 0.05, "c/kernel": 0.3}
CHOICES = {path: [Choice(), Choice(sparsity=0.8), Choice(bits=4), Choice(sparsity=0.8, bits=4)]
           for path in WEIGHTS}
DENSE = dict(cj.entries(PARAMS)[0])


def score(params):
  """Every layer's error adds up, some layers count more."""
  found = dict(cj.entries(params)[0])
  return 1 - sum(w * float(np.square(np.asarray(cj.dense(found[p])) - DENSE[p]).mean())
                 for p, w in WEIGHTS.items())


def floats(params):
  """A latency: how many layers are not quantized."""
  return float(sum(not isinstance(x, cj.FakeQuant) for _, x in cj.entries(params)[0]))


KNOWN = {}


def size(params):
  """Bytes of the artifact, encoded once a plan: that takes most of the tests' time."""
  leaves = [x for path, x in cj.entries(params)[0] if path in WEIGHTS]
  key = tuple((type(x).__name__, type(getattr(x, "value", x)).__name__, int(getattr(x, "bits", 0)))
              for x in leaves)
  if key not in KNOWN:
    KNOWN[key] = len(cj.artifact.encode(params))
  return KNOWN[key]


@functools.cache
def table():
  return cj.search.sensitivity(PARAMS, score, CHOICES)


@functools.cache
def everything():
  """Returns every plan there is, evaluated: (score, bytes)."""
  make = cj.search.choices.applier(PARAMS)
  made = [make(dict(zip(CHOICES, plan, strict=True)))
          for plan in itertools.product(*CHOICES.values())]
  return np.array([(score(p), size(p)) for p in made])


@functools.cache
def found(limits, seed=0):
  latency = floats if limits.max_latency_ms is not None else None
  other = latency and cj.search.sensitivity(PARAMS, latency, CHOICES)
  return cj.search.suggest(PARAMS, score, table(), limits, evaluations=60, latency=latency,
                           latency_table=other, seed=seed, size=size)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("max_bytes", [1300, 1700, 2500, 4000])
def test_within_bytes_it_finds_what_brute_force_does(max_bytes):
  best = found(Limits(max_bytes=max_bytes)).best
  scores, nbytes = everything().T
  assert best.bytes <= max_bytes
  assert best.score == pytest.approx(scores[nbytes <= max_bytes].max(), abs=1e-6)


@pytest.mark.parametrize("max_drop", [0.0, 0.02, 0.2, 2.0])
def test_within_a_drop_it_finds_the_fewest_bytes(max_drop):
  best = found(Limits(max_drop=max_drop)).best
  scores, nbytes = everything().T
  assert best.score >= 1 - max_drop - 1e-9
  assert best.bytes == nbytes[scores >= 1 - max_drop - 1e-9].min()


LIMITS = st.builds(
    Limits, max_bytes=st.sampled_from([None, 1500, 3000]), max_drop=st.sampled_from([0.05, 0.5]),
    max_latency_ms=st.sampled_from([None, 2.0]))


@given(LIMITS, st.integers(0, 1))
def test_the_best_keeps_every_limit_and_the_front_beats_itself_nowhere(limits, seed):
  s = found(limits, seed)
  assert (s.best is None) == bool(s.misses)
  if s.best:
    assert limits.misses(s.best, s.base) == {} and s.best == s.nearest
  inside = [p for p in s.points if not limits.misses(p, s.base)]
  assert bool(inside) == bool(s.best)
  if s.best and limits.hardware:
    assert s.best.score == max(p.score for p in inside)
  for p, q in itertools.permutations(s.front, 2):
    assert q.bytes < p.bytes or q.score > p.score or q.latency_ms < p.latency_ms
  assert len(s.points) <= 60 and s.points[0] == s.base
  assert len({tuple(p.plan.items()) for p in s.points}) == len(s.points)


def test_a_fronts_costs_are_shares_of_the_limits():
  latencies = cj.search.sensitivity(PARAMS, floats, CHOICES)
  nbytes = cj.search.layer_bytes(PARAMS, CHOICES)
  layers = predictions.predicted_layers(table(), nbytes, latencies)
  base = cj.search.Point(plan={}, score=1.0, bytes=5000, latency_ms=latencies.base)
  (front,) = predictions.predicted_fronts(layers, Limits(max_latency_ms=2.0), base)
  # From the bias alone in floats to all leaves; bytes count for a hundredth.
  assert front.costs[0] == pytest.approx(1 / 2, abs=0.01)
  assert front.costs[-1] == pytest.approx(4 / 2, abs=0.01)
  assert (np.diff(front.costs) > 0).all()


def test_where_nothing_fits_it_says_by_how_much():
  s = found(Limits(max_bytes=300, max_drop=0.5))
  assert s.best is None
  assert s.misses["max_bytes"] == s.nearest.bytes - 300
  rest = [sum(Limits(max_bytes=300, max_drop=0.5).misses(p, s.base).values()) for p in s.points]
  assert min(rest) > 0


def diverging(params):
  """A score that is not a number as soon as a layer has fewer than four bits."""
  leaves = [x for _, x in cj.entries(params)[0]]
  if any(isinstance(x, cj.FakeQuant) and x.bits < 4 for x in leaves):
    return float("nan")
  return score(params)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("limits", [Limits(max_drop=2.0), Limits(max_bytes=1700),
                                    Limits(max_bytes=1700, max_drop=2.0)])
def test_a_model_that_diverged_is_never_suggested(limits):
  choices = {path: [Choice(), Choice(bits=8), Choice(bits=4), Choice(bits=2)] for path in WEIGHTS}
  sees_it = cj.search.sensitivity(PARAMS, diverging, choices)
  # A table of another number need not tell.
  blind = cj.search.sensitivity(PARAMS, score, choices)
  for table in (sees_it, blind):
    s = cj.search.suggest(PARAMS, diverging, table, limits, evaluations=30)
    assert s.best is not None and np.isfinite(s.best.score)
    assert all(np.isfinite(p.score) for p in s.front)
    assert all(limits.misses(p, s.base)["score"] == np.inf for p in s.points if p.score != p.score)
  assert any(p.score != p.score for p in s.points)  # the blind search met some


def test_where_everything_small_diverges_nothing_fits():
  choices = {path: [Choice(), Choice(bits=2)] for path in WEIGHTS}
  blind = cj.search.sensitivity(PARAMS, score, choices)
  s = cj.search.suggest(PARAMS, diverging, blind, Limits(max_bytes=1000), evaluations=20)
  assert s.best is None and s.misses and s.nearest.score == s.nearest.score


def test_an_uncompressed_model_without_a_score_is_refused():
  nothing = lambda params: float("nan")
  with pytest.raises(ValueError, match="evaluate returned nan for the uncompressed model"):
    cj.search.suggest(PARAMS, nothing, table(), Limits(max_bytes=1700))
  bad = cj.search.sensitivity(PARAMS, nothing, {"b/kernel": [Choice(), Choice(bits=8)]})
  with pytest.raises(ValueError, match="table: the uncompressed model has nan"):
    cj.search.suggest(PARAMS, score, bad, Limits(max_bytes=1700))
  with pytest.raises(ValueError, match="latency returned nan"):
    cj.search.suggest(PARAMS, score, table(), Limits(max_latency_ms=1.0), latency=nothing,
                      latency_table=table())


def test_the_same_seed_gives_the_same_points():
  limits = Limits(max_bytes=1700)
  again = cj.search.suggest(PARAMS, score, table(), limits, evaluations=60, size=size)
  assert again == found(limits)


def test_the_best_survives_its_file():
  best = found(Limits(max_bytes=1300)).best
  params = cj.search.apply(PARAMS, best.plan)
  data = cj.artifact.encode(params)
  assert len(data) == best.bytes
  loaded = cj.artifact.decode(data)[0]
  chex.assert_trees_all_equal(cj.dense(loaded), cj.dense(params))
  assert score(loaded) == best.score
  for path, choice in best.plan.items():
    leaf = dict(cj.entries(loaded)[0])[path]
    assert np.mean(np.asarray(cj.dense(leaf)) == 0) >= choice.sparsity - 0.01
    assert getattr(leaf, "bits", None) == choice.bits


@pytest.mark.parametrize("arguments,message", [
    ({"limits": Limits(max_latency_ms=1.0)}, "max_latency_ms=1.0: needs latency"),
    ({"evaluations": 1}, "evaluations=1: must be a whole number from 2"),
    ({"latency": floats, "latency_table": cj.search.Table(base=0.0, scores={})},
     "latency_table: must be of the same layers"),
    ({"table": cj.search.Table(base=0.0, scores={"b/kernel": {Choice(bits=8): 0.0}})},
     "must have the one that changes nothing")])
def test_bad_input_names_the_argument(arguments, message):
  arguments = {"table": table(), "limits": Limits(max_bytes=1), **arguments}
  with pytest.raises(ValueError, match=message):
    cj.search.suggest(PARAMS, score, **arguments)


def test_bytes_of_layers_nearly_add_up_to_the_file():
  nbytes = cj.search.layer_bytes(PARAMS, CHOICES)
  plans = [dict(zip(CHOICES, row, strict=True)) for row in
           zip(*CHOICES.values(), strict=True)]
  rest = size(PARAMS) - sum(row[Choice()] for row in nbytes.values())
  for plan in plans:
    predicted = rest + sum(nbytes[path][choice] for path, choice in plan.items())
    assert size(cj.search.apply(PARAMS, plan)) == pytest.approx(predicted, abs=80 * len(plan))


def test_several_numbers_come_from_one_evaluation_each():
  calls = []

  def both(p):
    calls.append(p)
    return {"score": score(p), "floats": floats(p)}

  found = cj.search.sensitivities(PARAMS, both, CHOICES)
  assert found["score"] == table()
  assert found["floats"] == cj.search.sensitivity(PARAMS, floats, CHOICES)
  assert len(calls) == 1 + sum(len(row) - 1 for row in CHOICES.values())
