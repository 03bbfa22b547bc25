"""The command line: what it prints, what it refuses, and how it ends."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import compress_jax as cj
from compress_jax.inspect import columns, reader
from compress_jax.inspect.__main__ import main
from compress_jax.io import payloads
from tests.inspect import conftest
from tests.inspect.conftest import poison
from tests.io import hostile


@pytest.fixture
def run(capsys):
  """Calls the command and returns (status, output, error)."""
  def call(*arguments):
    status = main([str(a) for a in arguments])
    return (status, *capsys.readouterr())
  return call


@pytest.fixture
def stage(made):
  """A stage's directory by its name."""
  return lambda name: made[1][name].directory(made[0])


def test_a_process_of_its_own(made):
  done = subprocess.run([sys.executable, "-m", "compress_jax.inspect", made[0]], text=True,
                        capture_output=True, check=True)
  assert "a workdir of 3 stages" in done.stdout and done.stderr == ""
  assert re.search(r"^ {4}imp\+q-\w{12}  test accuracy 70.00 %", done.stdout, re.M)


def test_a_stage_in_words(run, stage):
  status, out, _ = run(stage("imp+q"))
  assert status == 0
  assert re.search(r"head/kernel +FakeQuant > Masked +16×6 +float32 .* 4 ", out)
  assert "total  params 392" in out and 'spec  {"technique": "imp"}' in out


def test_json_is_one_valid_document(run, made, stage):
  strict = lambda name: pytest.fail(f"{name} is no JSON")
  for path in (made[0], stage("imp"), stage("imp") / "model.cjx"):
    status, out, _ = run(path, "--json")
    known = json.loads(out, parse_constant=strict)
    assert status == 0 and known["path"] == str(path) and known["failures"] == []
  assert known["lineage"][0]["metrics"]["history"][1]["loss"] is None
  leaf = next(x for x in known["leaves"] if x["path"] == "head/kernel")
  assert leaf["kind"] == "Masked" and 0 < leaf["share"] < 1
  assert sum(x["share"] for x in known["leaves"]) == pytest.approx(1)


def test_layers_and_sort(run, made, stage):
  status, out, _ = run(stage("imp"), "--json", "--layers=kernel", "--sort=sparsity")
  found = json.loads(out)["leaves"]
  assert status == 0 and {x["path"] for x in found} == {"head/kernel", "stem/kernel"}
  assert found[0]["sparsity"] >= found[1]["sparsity"]
  back = json.loads(run(stage("imp"), "--json", "--layers=kernel", "--sort=-sparsity")[1])
  assert back["leaves"] == found[::-1]
  assert "stem/bias" not in run(made[0], "--layers=kernel")[1]
  names = re.findall(r"^(\S+)-\w{12}  .*%", run(made[0], "--sort=artifact_bytes")[1], re.M)
  assert names[:3] == ["base", "imp", "imp+q"]
  stages = json.loads(run(made[0], "--sort=test_accuracy", "--json")[1])["stages"]
  assert [s["lineage"][-1]["name"] for s in stages] == ["base", "imp", "imp+q"]
  assert all(s["leaves"] for s in stages)


def test_diff(run, stage):
  status, out, _ = run(stage("imp"), "--diff", stage("base"), "--sort=change", "--layers=kernel")
  assert status == 0 and "test accuracy  90.00 %  80.00 %" in re.sub(" {2,}", "  ", out)
  assert "stem/bias" not in out and "array" in out and "Masked" in out
  known = json.loads(run(stage("imp"), "--diff", stage("base"), "--json")[1])["diff"]
  assert known["totals"]["sparsity"]["before"] < known["totals"]["sparsity"]["after"]
  change = {x["path"]: x["change"] for x in known["leaves"]}
  assert change["stem/bias"] == 0 and 0 < change["head/kernel"] < 1


@pytest.mark.parametrize(("arguments", "words"), [
    (["none"], "none: no such file or directory; it must be a stage's directory"),
    ([".", "--sort=size"], "--sort=size: no such field; it must be one of stage, parent"),
    ([".", "--layers=("], r"--layers='\(': must be a regular expression"),
    ([".", "--html=no/such/page.html"], "--html=no/such/page.html: .*no/such is no directory"),
    ([".", "--diff=stages"], "stages: is none of these"),
    ([".", "--diff=."], "a workdir; --diff compares two checkpoints"),
    (["stages"], "stages: is none of these"),
    ([], "PATH"), ([".", "--nonsense"], "--nonsense")])
def test_what_cannot_be_done_is_said_in_one_line(arguments, words, made, monkeypatch, capsys):
  monkeypatch.chdir(made[0])
  try:
    status = main(arguments)
  except SystemExit as end:
    status = end.code
  out, err = capsys.readouterr()
  assert (status, out) == (2, "") and err.count("\n") == 1
  assert err.startswith("inspect: ") and re.search(words, err)


def test_a_page_takes_the_place_of_nothing_but_a_page(run, stage, tmp_path):
  model, note, page = tmp_path / "m.cjx", tmp_path / "note.html", tmp_path / "page.html"
  cj.artifact.save(model, {"w": jnp.ones((4, 4))})
  note.write_text("<p>mine")
  (tmp_path / "link").symlink_to(model)
  for file in (model, tmp_path / "link", note, tmp_path, "/dev/null"):
    before = file.read_bytes() if file in (model, note) else b""
    for arguments in ((model,), (stage("imp"), "--diff", model)):
      status, out, err = run(*arguments, "--html", file)
      assert (status, out) == (2, "") and f"--html={file}: " in err
    assert not before or file.read_bytes() == before
  for start in (b"", b"<!DOCTYPE HTML><p>"):
    page.write_bytes(start)
    assert run(model, "--html", page)[0] == 0 and b"m.cjx" in page.read_bytes()


@pytest.mark.parametrize("package", ["jinja2", "pygal", "PIL"])
def test_a_page_without_its_packages_is_refused_in_one_line(run, stage, tmp_path, monkeypatch,
                                                            package):
  monkeypatch.setitem(sys.modules, package, None)
  status, out, err = run(stage("imp"), "--html", tmp_path / "page.html")
  assert (status, out) == (2, "") and not (tmp_path / "page.html").exists()
  assert err == f"inspect: {package} is not installed: pip install compress_jax[html]\n"
  assert run(stage("imp"))[0] == 0  # the terminal needs none of them


def test_a_damaged_artifact_is_told_from_a_wrong_path(run, tmp_path):
  file = tmp_path / "model.cjx"
  cj.artifact.save(file, {"w": jnp.ones(9)})
  file.write_bytes(file.read_bytes()[:-1])
  status, out, err = run(file)
  assert (status, err) == (1, "") and f"damaged: {file}: cut short or changed" in out


def test_check_names_what_is_damaged(run, workdir):
  assert run(workdir, "--check")[0] == 0
  poison(next((workdir / "stages").glob("imp-*")))
  assert run(workdir)[0] == 0  # sizes are right, and no more is read
  status, out, _ = run(workdir, "--check")
  damaged = [line for line in out.splitlines() if line.startswith("damaged: ")]
  assert status == 1 and damaged and all("imp-" in line for line in damaged)
  assert "base-" not in "".join(damaged)


def test_a_page_of_what_is_damaged_is_still_written(run, workdir):
  stage = next((workdir / "stages").glob("imp-*"))
  next(p for p in stage.rglob("d/*") if p.is_file()).write_bytes(b"")
  status, out, _ = run(stage, "--html", workdir / "page.html")
  assert status == 1 and "damaged: " in out
  assert 'role="alert"' in (workdir / "page.html").read_text()


def test_weights_that_fail_their_checksum_are_told_of(run, workdir):
  page = workdir / "page.html"
  poison(next((workdir / "stages").glob("imp-*")))
  status, out, _ = run(next((workdir / "stages").glob("imp-*")), "--html", page)
  assert status == 1 and "damaged: " in out and "<h2>Weights" not in page.read_text()
  # The one after it is whole; only what was before cannot be shown.
  status, out, _ = run(next((workdir / "stages").glob("imp+q-*")), "--html", page)
  text = page.read_text()
  assert status == 0 and 'class="after"' in text and 'class="before"' not in text


@pytest.mark.parametrize("width", [80, 120, 400])
def test_a_terminal_has_whole_paths_and_the_columns_for_which_there_is_room(
    run, stage, monkeypatch, width):
  _, everything, _ = run(stage("imp+q"))
  monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
  monkeypatch.setenv("COLUMNS", str(width))
  status, out, _ = run(stage("imp+q"))
  assert status == 0
  start = out.index("\npath ")
  table = out[start:out.index("\ntotal ")].splitlines()
  assert all(len(line) <= width for line in table if not line.startswith("("))
  for line in everything[everything.index("\npath "):].splitlines()[1:]:
    if line.startswith("total"):
      break
    assert line.split()[0] in out if line else True
  assert ("(no room for: " in out) == (width < 400)


def test_what_was_checked_is_said(run, made, stage):
  assert "checked: every array of" in run(stage("imp+q"), "--check")[1]
  assert "checked: 3 stages, every array of" in run(made[0], "--check")[1]


def test_what_is_not_there_yet_is_neither_checked_nor_compared(run, stage, tmp_path):
  directory = tmp_path / "stages" / "next-0123"
  directory.mkdir(parents=True)
  (directory / "stage.json").write_text('{"name": "next", "spec": {}}')
  (directory / "failed.json").write_text('{"reason": "loss is nan", "at": 1.0}')
  status, out, _ = run(directory, "--check")
  assert status == 0 and "nothing to check: the stage is not complete\n" in out
  assert "checked:" not in out and "next-0123: a stage of 0 leaves, failed: loss is nan" in out
  assert json.loads(run(directory, "--json")[1])["lineage"][0]["failed"] == "loss is nan"
  for arguments in ((directory, "--diff", stage("imp")), (stage("imp"), "--diff", directory)):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and f"{directory}: a stage that is not complete" in err


def test_what_another_version_wrote(run, workdir, tmp_path):
  file = tmp_path / "m.cjx"
  cj.artifact.save(file, {"w": jnp.ones(2)})
  file.write_bytes(b"CJX3" + file.read_bytes()[4:])
  assert run(file)[::2] == (2, f"inspect: {file}: written by another version (format 3; this one "
                               "reads 2)\n")
  mark = next((workdir / "stages").glob("imp-*")) / "complete.json"
  mark.write_text(mark.read_text().replace('"format": 1', '"format": 2'))
  for arguments in ((), ("--check",), ("--html", tmp_path / "page.html")):
    status, out, _ = run(mark.parent, *arguments)
    assert status == 2 and f"not read: {mark}: written by another version" in out
    assert "damaged" not in out and "checked" not in out
  assert "<strong>Not read</strong>" in (tmp_path / "page.html").read_text()
  assert run(workdir)[0] == 2
  assert "by another version" in run(mark.parent, "--diff", file.parent / "m.cjx")[2]


def test_leaves_that_are_gone_are_found_by_their_names(run, tmp_path):
  for name, tree in (("a", {"k": jnp.ones(4), "gone": jnp.ones(4)}), ("b", {"k": jnp.ones(4)})):
    cj.checkpoint.save(tmp_path / name, tree)
  status, out, _ = run(tmp_path / "b", "--diff", tmp_path / "a", "--layers=gone", "--json")
  known = json.loads(out)
  assert status == 0 and known["leaves"] == []
  assert [row["path"] for row in known["diff"]["leaves"]] == ["gone"]


def test_metrics_may_be_called_like_fields_of_leaves(run, tmp_path):
  numbers = dict.fromkeys(("rank", "shape", "block_sparsity", "path", "scale_max", "bits"), 3)
  conftest.stage(tmp_path, "odd", {"w": jnp.ones(2)}, **numbers)
  status, out, _ = run(tmp_path)
  assert status == 0 and all(columns.heading(name) in out for name in numbers)
  assert run(tmp_path, "--html", tmp_path / "page.html")[0] == 0


def test_names_move_no_cursor_and_end_no_line(run, tmp_path):
  file = tmp_path / "\udce9.cjx"  # a name of bytes that are no UTF-8
  cj.artifact.save(file, {"a\x1b[31m\ntotal": jnp.ones(2)}, note="\x1b")
  status, out, err = run(file, "--html", tmp_path / "page.html")
  assert (status, err) == (0, "") and "\\udce9.cjx" in (tmp_path / "page.html").read_text()
  status, out, err = run(file)
  assert (status, err) == (0, "") and re.search(r"^a\\x1b\[31m\\ntotal +array", out, re.M)
  assert "\x1b" not in out and "\\udce9.cjx: a deployable file" in out
  assert run(tmp_path / "\x1b")[2].startswith(f"inspect: {tmp_path}/\\x1b: no such file")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_terminals_that_have_not_all_letters(stage, encoding):
  done = subprocess.run(
      [sys.executable, "-m", "compress_jax.inspect", stage("imp"), "--diff", stage("base")],
      capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": encoding})
  out = done.stdout.decode(encoding)
  assert ("→" in out) == (encoding == "utf-8") and ("\\u2192" in out) == (encoding != "utf-8")


def test_numbers_that_are_none_are_told_everywhere(run, tmp_path):
  tree = {"dead": jnp.full((8, 8), jnp.nan), "part": jnp.ones((8, 8)).at[0].set(jnp.inf),
          "good": jnp.ones(8), "zero": jnp.zeros((8, 8))}
  cj.checkpoint.save(tmp_path / "step", tree)
  _, out, _ = run(tmp_path / "step", "--sort=nonfinite")
  assert "not finite" in out and re.search(r"^dead .* 64 +64 ", out, re.M)
  assert "not finite 72" in out
  leaves = json.loads(run(tmp_path / "step", "--json")[1])["leaves"]
  assert {x["path"]: x["nonfinite"] for x in leaves} == {
      "dead": 64, "part": 8, "good": 0, "zero": 0}
  page = tmp_path / "page.html"
  assert run(tmp_path / "step", "--html", page)[0] == 0
  cards = dict(re.findall(r"<h3>(\w+)</h3>(.*?)</section>", page.read_text(), re.S))
  assert "64 of 64 are NaN or infinite" in cards["dead"] and "all zeros" not in cards["dead"]
  assert "8 of 64 are NaN or infinite" in cards["part"]
  assert "all zeros" in cards["zero"] and "NaN" not in cards["zero"] + cards["good"]
  cj.checkpoint.save(tmp_path / "step", {"good": tree["good"]})
  assert "not finite" not in run(tmp_path / "step")[1]


def test_a_narrow_terminal_keeps_what_is_looked_for(run, made, stage, monkeypatch):
  monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
  monkeypatch.setenv("COLUMNS", "80")
  for path, sort, headings in ((stage("imp+q"), "--sort=-scale_max", ("packed B", "scale")),
                               (made[0], "--sort=nonzero_bytes", ("file B", "nonzero B"))):
    first = re.search(r"^(path|stage) .*", run(path, sort)[1], re.M)[0]
    assert len(first) <= 80 and all(heading in first for heading in headings)


def test_only_what_is_shown_is_computed(run, made, stage, tmp_path, monkeypatch):
  monkeypatch.setattr(payloads, "gzip_bytes", lambda *_: pytest.fail("compressed"))
  assert run(stage("imp+q"), "--check")[0] == 0 and run(made[0], "--check")[0] == 0
  monkeypatch.undo()
  read = []
  monkeypatch.setattr(reader, "measured", lambda found, *_, **__: read.append(found) or found)
  assert run(stage("imp+q"), "--html", tmp_path / "page.html")[0] == 0
  assert [found.name for found in read] == [stage("imp+q").name]  # not the one before it


def test_a_closed_pipe_is_no_error(made):
  command = f"{sys.executable} -m compress_jax.inspect {made[0]} --json | head -c 1"
  done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True,
                        check=False)
  assert (done.stdout, done.stderr) == ("{", "")


def save_state(path, key, values):
  """Saves a training state with a key, a counter, complex numbers and an empty masked leaf."""
  empty = cj.Masked(jnp.zeros((3, 0)), jnp.ones((3, 0), bool))
  cj.checkpoint.save(path, {"w": values, "key": jax.random.key(key), "step": jnp.int32(7),
                            "waves": jnp.array([1 + 2j + key * 1j]), "empty": empty})
  return path


def test_training_states_are_compared_and_drawn(run, tmp_path):
  before = save_state(tmp_path / "a", 1, jnp.ones((4, 4)))
  after = save_state(tmp_path / "b", 2, jnp.ones((4, 4)))
  status, out, err = run(after, "--diff", before)
  assert (status, err) == (0, "")
  rows = {line.split()[0]: line for line in out.splitlines() if line}
  assert rows["w"].split()[-1] == "0" and "0.3162" in rows["waves"]  # |1j| / |1 + 3j|
  assert float(rows["key"].split()[-1]) > 0
  assert run(after, "--html", tmp_path / "page.html")[0] == 0
  # Keys and counters are not parameters.
  assert "total  params 17  non-zero 17  sparsity 0.0 %" in run(after)[1]


def test_weights_that_are_no_numbers_show_in_a_comparison(run, tmp_path):
  paths = [tmp_path / name for name in "ab"]
  for path, value in zip(paths, (1.0, jnp.nan), strict=True):
    cj.checkpoint.save(path, {"w": jnp.full((4, 4), value)})
  status, out, _ = run(paths[1], "--diff", paths[0])
  assert status == 0 and re.search(r"^w .* nan$", out, re.M)


def test_a_choice_of_leaves_that_is_none_is_refused(run, made, stage):
  status, _, err = run(stage("imp"), "--layers", "nothing")
  assert status == 2 and "--layers='nothing' matches no leaf; must match one of: " in err
  assert re.search(r"^total of all \d+ leaves  params", run(stage("imp"), "--layers", "head")[1],
                   re.M)


def test_a_manifest_cut_short_is_damage(run, tmp_path):
  cj.checkpoint.save(tmp_path / "step", {"w": jnp.ones(3)})
  manifest = tmp_path / "step" / "manifest.json"
  manifest.write_text(manifest.read_text()[:-9])
  status, out, err = run(tmp_path / "step")
  assert (status, err) == (1, "") and "manifest.json: cannot be read, maybe cut short" in out


def test_an_artifacts_metadata_is_shown(run, tmp_path):
  cj.artifact.save(tmp_path / "model.cjx", {"w": jnp.ones(3)}, accuracy=jnp.float32(0.5))
  assert 'metadata  {"accuracy": 0.5}' in run(tmp_path / "model.cjx")[1]


@pytest.mark.parametrize("leaf", [hostile.HUGE, hostile.HUGE_ROUNDED], ids=["blocks", "rounded"])
def test_a_leaf_that_no_memory_holds_is_told_and_not_made_dense(run, tmp_path, leaf, monkeypatch):
  file = tmp_path / "model.cjx"
  file.write_bytes(hostile.artifact_of(leaf))
  # Without the check this would be what takes the memory.
  monkeypatch.setattr(cj.BlockSparse, "dense", lambda self: pytest.fail("made dense"))
  for arguments in ((), ("--check",), ("--html", tmp_path / "page.html")):
    status, out, _ = run(file, *arguments)
    assert status == 0 and re.search(
        r"not measured: w: .*BlockSparse of shape \(60000000, 64\) stands for far more", out)
  assert "too large to be drawn" in (tmp_path / "page.html").read_text()
  assert run(file, "--diff", file)[0] == 0
