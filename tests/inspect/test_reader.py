"""From a path to what is there: every kind of path, damage, and no weights read."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from compress_jax import inspect
from compress_jax.inspect import columns
from compress_jax.inspect.diff import compare
from compress_jax.inspect.lineage import ancestors, read_stage
from tests.inspect.conftest import poison


def test_a_stage_tells_its_leaves_sizes_and_lineage(made, trees):
  workdir, stages = made
  found = inspect.read(stages["imp+q"].directory(workdir))
  assert [s.name for s in found.lineage] == ["base", "imp", "imp+q"]
  assert found.what == "stage" and found.stage.spec == {"technique": "imp+q"}
  assert {x.path: x.kind for x in found.leaves} == {
      "head/kernel": "FakeQuant > Masked", "stem/bias": "array",
      "stem/kernel": "FakeQuant > Masked"}
  size, totals = cj.size(trees["imp+q"]), found.totals
  for name in ("dense", "nonzero", "packed", "gzip", "artifact"):
    assert totals[f"{name}_bytes"] == getattr(size, name)
  assert not found.failures


def test_checkpoints_and_artifacts_in_a_stage_know_it(made, trees):
  workdir, stages = made
  directory = stages["imp"].directory(workdir)
  saved, file = inspect.read(directory / "checkpoint"), inspect.read(directory / "model.cjx")
  assert (saved.what, file.what) == ("checkpoint", "artifact")
  assert saved.name == f"{directory.name}/checkpoint" and file.stage.name == "imp"
  assert saved.leaves == inspect.read(directory).leaves
  assert file.totals["artifact_bytes"] == (directory / "model.cjx").stat().st_size
  for found in (saved, file):
    assert np.array_equal(cj.dense(inspect.tree_of(found))["head"]["kernel"],
                          cj.dense(trees["imp"])["head"]["kernel"])


def test_a_workdir_reads_no_weights(workdir, made):
  poison(workdir)
  found = inspect.read(workdir)
  assert [s.stage.name for s in found.stages] == ["base", "imp", "imp+q"] and not found.failures
  intact = inspect.read(made[0])
  assert [s.totals for s in found.stages] == [s.totals for s in intact.stages]
  checked = inspect.check(found)
  assert all(s.failures for s in checked.stages)
  assert any("model.cjx" in line for line in checked.failures)


def test_files_of_another_size_are_named_without_reading(workdir):
  stage = next((workdir / "stages").glob("imp-*"))
  largest = max((stage / "checkpoint" / "arrays").rglob("d/*"), key=lambda p: p.stat().st_size)
  largest.write_bytes(b"")
  found = inspect.read(workdir)
  assert len(found.failures) == 1 and str(largest) in found.failures[0]


def test_every_damaged_array_is_named(tmp_path):
  path = tmp_path / "step"
  cj.checkpoint.save(path, {"a": jnp.arange(9.0), "b": jnp.ones(3), "c": jnp.zeros((0, 2))})
  manifest = json.loads((path / "manifest.json").read_text())
  manifest["checksums"]["a"] ^= 1
  del manifest["checksum"]
  (path / "manifest.json").write_text(json.dumps(manifest))
  assert inspect.check(inspect.read(path)).failures == ("a fails its checksum",)
  assert cj.checkpoint.check(path) == ["a fails its checksum"]


def test_a_stage_that_is_not_complete(workdir):
  directory = workdir / "stages" / "next-0123"
  directory.mkdir()
  known = {"name": "next", "parent": "gone-1", "spec": {}}
  (directory / "stage.json").write_text(json.dumps(known))
  found = inspect.read(directory)
  assert (found.leaves, found.failures, found.stage.metrics) == ((), (), None)
  assert len(inspect.read(workdir).stages) == 4 and not inspect.check(found).failures
  (directory / "failed.json").write_text(json.dumps({"reason": "loss is nan", "at": 1.0}))
  assert columns.key_numbers(inspect.read(directory).stage) == ["failed: loss is nan"]


@pytest.mark.parametrize("file", ["stage.json", "metrics.json", "checkpoint/manifest.json"])
@pytest.mark.parametrize("text", ['{"cut', "[1]"])
def test_one_damaged_file_leaves_the_others_shown(workdir, file, text):
  stage = next((workdir / "stages").glob("base-*"))
  (stage / file).write_text(text)
  found = inspect.read(workdir)
  assert len(found.stages) == 3 and any(file in line for line in found.failures)
  assert sum(bool(s.leaves) for s in found.stages) >= 2


def test_a_manifest_of_an_older_version(workdir):
  stage = next((workdir / "stages").glob("imp-*"))
  file = stage / "checkpoint" / "manifest.json"
  known = json.loads(file.read_text())
  later = ("summary", "checksum")
  file.write_text(json.dumps({k: v for k, v in known.items() if k not in later}))
  found = inspect.read(stage)
  leaf = next(x for x in found.leaves if x.path == "head/kernel")
  assert (leaf.kind, leaf.shape, leaf.dense_bytes, leaf.sparsity) == ("Masked", (16, 6), 384, None)
  full = inspect.measured(found, inspect.tree_of(found))
  assert next(x for x in full.leaves if x.path == "head/kernel").sparsity > 0


def test_stages_that_name_each_other_end(workdir):
  base = next((workdir / "stages").glob("base-*"))
  known = json.loads((base / "stage.json").read_text())
  last = next((workdir / "stages").glob("imp+q-*"))
  (base / "stage.json").write_text(json.dumps({**known, "parent": last.name}))
  assert [s.name for s in ancestors(read_stage(last))] == ["base", "imp", "imp+q"]
  assert len(inspect.read(workdir).stages) == 3


def test_other_paths_are_refused(tmp_path):
  (tmp_path / "file").write_bytes(b"nonsense")
  for path, words in ((tmp_path / "none", "no such file"), (tmp_path, "none of these"),
                      (tmp_path / "file", "an artifact")):
    with pytest.raises(inspect.InspectError, match=f"{path}.*{words}.*workdir"):
      inspect.read(path)


def test_a_diff_across_folding_says_so(tmp_path):
  conv, norm = {"kernel": np.ones((3, 3, 2, 4), np.float32)}, np.ones(4, np.float32)
  before = {"params": {"conv": conv, "norm": {"scale": norm, "bias": norm}},
            "batch_stats": {"norm": {"mean": norm, "var": norm}}}
  after = {"params": {"conv": {**conv, "bias": norm}}}
  for name, tree in (("before", before), ("after", after)):
    cj.checkpoint.save(tmp_path / name, tree)
  found = [inspect.read(tmp_path / name) for name in ("before", "after")]
  rows = {row["path"]: row for row in compare(*found, before, after).rows}
  assert rows["params/conv/bias"]["kind_before"] == "folded"
  assert rows["batch_stats/norm/mean"]["kind"] == rows["params/norm/scale"]["kind"] == "folded"
  # A layer that is gone was not folded into anything.
  lost = {"params": {"norm": before["params"]["norm"]}}
  cj.checkpoint.save(tmp_path / "lost", lost)
  rows = compare(found[0], inspect.read(tmp_path / "lost"), before, lost).rows
  assert not any("folded" in (row["kind"], row["kind_before"]) for row in rows)


def test_statistics_of_norms_are_no_parameters(tmp_path):
  variables = {"params": {"w": jnp.eye(4), "norm": {"scale": jnp.ones(4)}},
               "batch_stats": {"norm": {"mean": jnp.ones(4), "var": jnp.ones(4)}}}
  cj.checkpoint.save(tmp_path / "step", variables)
  found = inspect.read(tmp_path / "step")
  assert found.totals["params"] == 20 and len(found.leaves) == 4
  assert found.totals["dense_bytes"] == 4 * 28


def test_other_files_in_a_stages_folder_are_not_its_model(made, workdir):
  stage = next((workdir / "stages").glob("imp-*"))
  known = inspect.read(stage).totals
  other = {"w": jnp.arange(2048.0)}
  for name in ("aa.cjx", "zz.cjx"):
    cj.artifact.save(stage / name, other)
    cj.checkpoint.save(stage / name[:2], other)
  assert inspect.read(stage).totals == known and not inspect.check(inspect.read(stage)).failures
  for path in (stage / "aa.cjx", stage / "zz"):
    found = inspect.read(path)
    full = inspect.measured(found, inspect.tree_of(found)).totals
    assert full["gzip_bytes"] == cj.size(other).gzip and full["params"] == 2048
    assert full["artifact_bytes"] in (None, (stage / "aa.cjx").stat().st_size)
    compared = compare(inspect.read(stage), found, inspect.tree_of(inspect.read(stage)), other)
    assert compared.totals["test_accuracy"] == (0.8, None)
  assert inspect.read(stage / "model.cjx").totals["gzip_bytes"] == known["gzip_bytes"]
  # Under another name it is the stage's where it is the only one.
  (stage / "model.cjx").rename(stage / "aa.cjx")
  assert read_stage(stage).artifact is None
  (stage / "zz.cjx").unlink()
  assert read_stage(stage).artifact == stage / "aa.cjx"


@pytest.mark.parametrize("file", ["complete.json", "checkpoint/manifest.json"])
def test_what_another_version_wrote_is_not_called_damaged(workdir, file):
  stage = next((workdir / "stages").glob("imp-*"))
  known = json.loads((stage / file).read_text())
  (stage / file).write_text(json.dumps({**known, "format": 2}))
  # That the manifest is another one is told by the list of the stage's files.
  changed = file != "complete.json"
  for found in (inspect.read(stage), inspect.read(workdir), inspect.check(inspect.read(stage))):
    assert len(found.unread) == 1 and bool(found.failures) == changed
    assert found.unread[0].endswith(f"{file}: written by another version (format 2; this one reads "
                                    "1)")
  if changed:
    with pytest.raises(inspect.InspectError, match="by another version"):
      inspect.read(stage / "checkpoint")


def test_a_checkpoint_that_lost_its_manifest(tmp_path):
  cj.checkpoint.save(tmp_path / "step", {"w": jnp.ones(3)})
  (tmp_path / "step" / "manifest.json").unlink()
  found = inspect.read(tmp_path / "step")
  assert found.what == "checkpoint"
  assert found.failures == (f"{tmp_path / 'step' / 'manifest.json'}: is missing",)


def test_a_manifest_nested_deeply_is_damaged(tmp_path):
  cj.checkpoint.save(tmp_path / "step", {"w": jnp.ones(3)})
  file = tmp_path / "step" / "manifest.json"
  known = json.loads(file.read_text())
  deep = '{"dict": {"a": ' * 3000 + json.dumps(known.pop("structure")) + "}}" * 3000
  del known["checksum"]
  file.write_text(json.dumps(known)[:-1] + f', "structure": {deep}}}')
  assert "manifest.json: cannot be read" in inspect.read(tmp_path / "step").failures[0]
