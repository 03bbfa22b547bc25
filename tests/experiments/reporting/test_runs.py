"""Runs of workdirs: listed, compared and removed, with what others use left alone."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

import compress_jax as cj
from compress_jax.io import stage_files
from experiments.reporting import places, removal, results, run_tables, runs
from experiments.studies import base, seeds


class Toy(base.Study):
  """A study whose stages take no time: a few numbers, less of them by technique."""

  names = property(lambda self: self.config.names)
  more = ("extra",)  # as Figure 5's models: a stage without a row

  def check(self):
    pass

  def parent(self, name):
    return None if name == "base" else "base"

  def spec(self, name):
    return {} if name == "base" else {"fraction": self.config.imp.fraction}

  def _work(self, name, directory):
    params = {"w": np.ones((8, 8 - len(name)), np.float32)}
    size = cj.artifact.save(directory / "model.cjx", params)
    accuracy = 0.9 - len(name) / 100 - self.seed / 50
    return params, {
        **dict.fromkeys(base.SIZES, 1000), "artifact_bytes": size,
        "test_accuracy": accuracy, "val_accuracy": accuracy}


def report(studies, rows, folder, config):
  results.write(studies, rows, folder, config, texts={"tables.md": lambda: "a table"},
                pictures={"own.png": lambda path: path.write_bytes(b"png")})


def run(workdir, fraction=0.2, names=("base", "imp"), count=1):
  config = ConfigDict({
      "study": "experiments.studies.toy.study.run", "compute_dtype": "float32", "seed": 0,
      "seeds": count, "names": names, "imp": {"fraction": fraction}, "data": {"name": "digits"}})
  return seeds.run(Toy, lambda config: None, report, config, workdir)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """A folder of workdirs: two settings in one, one in another, and one without results."""
  root = tmp_path_factory.mktemp("runs")
  run(root / "first")
  run(root / "first", 0.5, names=("base", "q"), count=2)
  run(root / "second", names=("base", "imp", "q"))
  (root / "begun" / "stages" / "base-0123456789ab").mkdir(parents=True)
  (root / "second" / "missing.txt").write_text("failed: q (seed 0): it diverged\n")
  return root


OTHER = "first/results/imp.fraction=0.5,names=-base-,-q-,seeds=2"


@pytest.fixture
def root(made, tmp_path):
  """A copy, to remove from."""
  return shutil.copytree(made, tmp_path / "runs")


def stages(workdir):
  return {path.name.partition("-")[0] for path in (workdir / "stages").iterdir()}


def remove(root, names):
  return "\n".join(removal.remove(runs.chosen(names, root, "remove"), root))


def test_every_run_has_a_row_with_what_its_files_say(made):
  text = run_tables.listed(made, 200)
  rows = {line.split()[0]: line for line in text.splitlines()[1:]}
  assert list(rows) == ["begun", "first", OTHER, "second"]
  assert re.search(r"toy +digits .* 2  +87.00  0.1 kB at 8\d.00 %  complete", rows["first"])
  # The mean of two seeds.
  assert re.search(r" 4  +88.00 ", rows[OTHER]) and rows["second"].endswith("1 missing")
  assert rows["begun"].endswith("no results yet")


@pytest.mark.parametrize("columns", [80, 120])
def test_rows_fit_the_terminal_and_names_stay_whole(made, columns):
  lines = run_tables.listed(made, columns).splitlines()
  assert max(map(len, lines)) <= columns and OTHER in lines


def test_a_workdir_is_listed_by_itself_and_results_of_csv_alone_too(root):
  (root / "second" / "results.json").unlink()
  text = run_tables.listed(root / "second", 120)
  assert text.splitlines()[1].startswith(".  ") and " 89.00 " in text


@pytest.mark.parametrize("content", ["{", "[]", '{"results": 3, "config": 4}'])
def test_damaged_results_are_listed_as_far_as_they_can_be_read(root, content):
  (root / "second" / "results.json").write_text(content)
  assert "second" in run_tables.listed(root, 120)


def test_a_study_at_work_is_listed_as_such(root):
  with places.held(root / "begun"):
    assert "at work" in run_tables.listed(root, 120)
  assert "at work" not in run_tables.listed(root, 120)


def test_compared_are_fields_that_differ_and_rows_of_both(made):
  text = run_tables.compared(runs.chosen(f"first,{OTHER}", made, "compare"), made, 120)
  assert re.search(r"imp.fraction  0.2 +0.5\n", text) and re.search(r"seeds +1 +2\n", text)
  assert "compute_dtype" not in text
  assert re.search(r"base +86.00  85.00 +-1.00 +0.1  0.1 +\+0.0 ", text)
  assert re.search(r"imp +87.00 +– +only A", text) and re.search(r"q +– +88.00 +only B", text)


def test_compared_are_images_and_releases(root):
  file = root / "second" / "results.json"
  known = json.loads(file.read_text())
  names = "first,second"
  text = run_tables.compared(runs.chosen(names, root, "compare"), root, 120)
  assert "(images)" not in text and "(jax)" not in text
  known["data"], known["environment"]["jax"] = "other", "0.1.2"
  file.write_text(json.dumps(known))
  text = run_tables.compared(runs.chosen(names, root, "compare"), root, 120)
  assert re.search(r"\(images\) +\w+ +other", text) and re.search(r"\(jax\) +\S+ +0.1.2", text)


def test_three_runs_on_a_narrow_terminal_have_a_table_per_measure(made):
  names = f"first,second,{OTHER}"
  text = run_tables.compared(runs.chosen(names, made, "compare"), made, 70)
  assert all(text.count(title) == 1 for title in ("test accuracy, %", "file, kB", "saved, %"))
  assert max(map(len, text.partition("\n\n")[2].splitlines())) <= 70


def test_names_may_have_commas_and_be_paths(made):
  found = runs.chosen(f"{made / 'first'},{OTHER},second", made, "compare")
  assert found == [made / "first", made / OTHER, made / "second"]
  with pytest.raises(ValueError, match="--compare='third': no results are there; it must be"):
    runs.chosen("first,third", made, "compare")
  with pytest.raises(ValueError, match="--compare='first': is one run; it must be two"):
    run_tables.compared(runs.chosen("first", made, "compare"), made, 120)


def test_removing_a_run_leaves_what_the_others_use(root):
  before = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
  text = remove(root, "first")
  after = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
  assert "removed 2 stages: extra-" in text and "kept 1 stage that others use" in text
  # The lock is new and empty.
  assert f"freed {before - after:,} bytes" in text
  assert not runs.is_results(root / "first") and not (root / "first" / "own.png").exists()
  left = root / "first" / "stages"
  assert stages(left.parent) == {"base", "extra", "q"}
  assert not any(stage_files.check(path) for path in left.iterdir())
  rows = json.loads((root / OTHER / "results.json").read_text())["results"]
  assert all((root / OTHER / row["artifact"]).is_file() for row in rows)
  # The same settings again find all of it, at the same place.
  run(root / "first", 0.5, names=("base", "q"), count=2)
  assert not runs.is_results(root / "first")


def test_the_last_run_takes_its_workdir_with_it_but_no_file_of_others(root):
  (root / "first" / "compiled").mkdir()
  (root / "second" / "notes.md").write_text("mine")
  text = remove(root, f"first,{OTHER},second")
  assert not (root / "first").exists()
  assert [path.name for path in (root / "second").iterdir()] == ["notes.md"]
  assert "nothing says that the run wrote it: notes.md" in text


def test_stages_of_an_earlier_release_are_kept(root):
  file = root / OTHER / "results.json"
  known = json.loads(file.read_text())
  del known["stages"]
  file.write_text(json.dumps(known))
  before = stages(root / "first")
  assert "kept all stages: " in remove(root, "first")
  assert stages(root / "first") == before and not runs.is_results(root / "first")


def test_nothing_is_removed_while_a_study_works_in_the_workdir(root):
  before = sorted(root.rglob("*"))
  with places.held(root / "first"), pytest.raises(ValueError, match="a study works in .*first now"):
    remove(root, "second,first")
  assert [path for path in sorted(root.rglob("*")) if path.name != "lock"] == [
      path for path in before if path.name != "lock"]


def test_links_and_names_that_lead_elsewhere_are_not_followed(root, tmp_path):
  precious = tmp_path / "precious"
  precious.mkdir()
  (precious / "results.json").write_text("{}")
  (root / "link").symlink_to(precious)
  with pytest.raises(ValueError, match="link'?: is a symbolic link or behind one"):
    remove(root, "link")
  file = root / "second" / "results.json"
  known = json.loads(file.read_text())
  known |= {"stages": ["../../../precious", "linked", ".."], "files": [
      "../../precious/results.json", "stages", ".", "/etc/passwd", "linked"]}
  file.write_text(json.dumps(known))
  (root / "second" / "stages" / "linked").symlink_to(precious)
  (root / "second" / "linked").symlink_to(precious / "results.json")
  remove(root, "second")
  assert (precious / "results.json").exists() and len(stages(root / "second")) == 5


def test_runs_that_start_together_keep_the_results_of_each(tmp_path, monkeypatch):
  work = Toy._work

  def meanwhile(self, name, directory):
    if self.config.imp.fraction == 0.5 and name == "base":
      run(tmp_path)  # of other settings, it starts and ends while this one works
    return work(self, name, directory)

  monkeypatch.setattr(Toy, "_work", meanwhile)
  monkeypatch.setattr(Toy, "spec", lambda self, name: {"fraction": self.config.imp.fraction})
  run(tmp_path, 0.5)
  folders = (tmp_path, tmp_path / "results" / "imp.fraction=0.5")
  for folder, fraction in zip(folders, (0.2, 0.5), strict=True):
    known = json.loads((folder / "results.json").read_text())
    assert known["config"]["imp"]["fraction"] == fraction
    with (folder / "results.csv").open() as file:
      for row in csv.DictReader(file):
        assert (folder / row["artifact"]).is_file()
