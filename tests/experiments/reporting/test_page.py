"""The report's page and its links."""

import base64
import re
import urllib.parse

import numpy as np

import compress_jax as cj
from experiments.reporting import page as report_page
from tests.inspect import browser


def row(combo, seed, accuracy, reduction):
  return {"combo": combo, "seed": seed, "test_accuracy": accuracy, "val_accuracy": accuracy,
          "params": 10, "nonzero_params": 5, "nonzero_bytes": 20, "gzip_bytes": 30,
          "artifact_bytes": 40, "reduction": reduction, "seconds": 1.0, "artifact": "m.cjx"}


ROWS = [row("base", 0, 0.9, 0.1), row("q", 0, 0.8, 0.7), row("base", 1, 0.7, 0.1),
        row("q", 1, 0.8, 0.7)]


def finished(tmp_path, seeds=(0,)):
  """A workdir of two stages a seed, with the rows that their study would write."""
  rows = []
  for seed in seeds:
    base = cj.stages.Stage(name="base", spec={"seed": seed})
    imp = cj.stages.Stage(name="imp", spec={"seed": seed}, parent=base)
    params = {"w": np.random.default_rng(seed).normal(size=(8, 8)).astype(np.float32)}
    epochs = [{"loss": 2.0, "accuracy": 0.5, "val_accuracy": 0.4},
              {"loss": 1.0, "accuracy": 0.6, "val_accuracy": 0.5}]
    for stage, tree, metrics in ((base, params, {"history": epochs}), (
        imp, cj.prune.magnitude(params, 0.5), {"rounds": [{"history": epochs}] * 2})):
      def work(directory, tree=tree, metrics=metrics):
        cj.artifact.save(directory / "model.cjx", tree)
        return tree, metrics
      result = cj.stages.run(stage, tmp_path, work)
      artifact = (result.directory / "model.cjx").relative_to(tmp_path)
      rows.append({**row(stage.name, seed, 0.9, 0.1), "artifact": str(artifact)})
  return rows


def write_page(rows, workdir):
  report_page.write(rows, workdir, config={"imp": {"fraction": 0.2}},
                    environment={"jax": "9.9", "devices": ["<cpu>"]})
  return (workdir / "report.html").read_text()


def test_the_page_has_all_and_its_links_lead_somewhere(tmp_path):
  text = write_page(finished(tmp_path, seeds=(0, 1)), tmp_path)
  for words in ("Pareto front", "Accuracy against size", "Accuracy against sparsity",
                "imp, seed 1: 4 epochs in 2 rounds", "9.9", "&lt;cpu&gt;", "fraction"):
    assert words in text
  assert text.count('<svg ') == 3 + 2 * 4 and text.count('class="bar"') == 4
  assert text.count('role="group"') == 3 and text.count('role="img"') == 2 * 4
  links = set(re.findall(r'href="([^"]*)"', text))
  assert len(links) == 8 and not re.search(r"https?://", browser.without_namespaces(text))
  assert all((tmp_path / urllib.parse.unquote(link)).is_file() for link in links)


def test_points_lead_to_the_inspection_of_their_artifact(tmp_path):
  rows = finished(tmp_path)
  (tmp_path / rows[1]["artifact"]).write_bytes(b"CJX")  # so that it has none
  text = write_page(rows, tmp_path)
  leads = re.findall(r'xlink:href="([^"]*)"', text)
  assert len(leads) == 3 and len(set(leads)) == 1  # base, in each of three charts
  assert (tmp_path / urllib.parse.unquote(leads[0])).is_file()
  links = set(re.findall(r'href="([^"]*)"', text))
  assert all((tmp_path / urllib.parse.unquote(link)).is_file() for link in links)


def test_only_the_front_is_named(tmp_path):
  rows = finished(tmp_path)
  rows[1] |= {"test_accuracy": 0.5}  # beaten by base
  text = write_page(rows, tmp_path)
  assert text.count('class="label">base</text>') == 3 and 'class="label">imp' not in text
  assert text.count("<title>imp: ") == 3


def test_pages_that_are_up_to_date_are_kept(tmp_path):
  rows = finished(tmp_path)
  write_page(rows, tmp_path)
  pages = sorted((tmp_path / "inspect").iterdir())
  times = [p.stat().st_mtime_ns for p in pages]
  pages[0].unlink()
  write_page(rows, tmp_path)
  again = [p.stat().st_mtime_ns for p in pages]
  assert len(pages) == 2 and again[1] == times[1] and again[0] > times[0]
  assert 'href="base' in pages[1].read_text()


def test_a_damaged_artifact_costs_only_its_page(tmp_path, capsys):
  rows = finished(tmp_path)
  (tmp_path / rows[1]["artifact"]).write_bytes(b"CJX")
  assert "Pareto" in write_page(rows, tmp_path)
  assert "no inspection of" in capsys.readouterr().out
  assert len(list((tmp_path / "inspect").iterdir())) == 1


def test_the_page_says_what_it_is_about_and_has_the_tables_and_pictures(tmp_path):
  rows = finished(tmp_path)
  rows[1]["combo"] = "imp+q"
  png = b"\x89PNG" + bytes(8)
  (tmp_path / "figure5.png").write_bytes(png)
  config = {"study": "experiments.studies.vgg16_cifar10.study.run", "model": {"name": "vgg16"},
            "data": {"name": "cifar10"}}
  report_page.write(
      rows, tmp_path, config=config, environment={},
      texts=["## Table 1\n\nWords.\n\n| model | accuracy, % | paper |\n|---|---|---|\n"
             "| a<b | 92.50 | 89.90 |\n"], pictures=["figure5.png", "pareto.png"])
  text = (tmp_path / "report.html").read_text()
  assert "<h1>vgg16 on CIFAR-10</h1>" in text
  assert "VGG-16 on CIFAR-10, of &#34;Report on model compression&#34;." in text
  assert "<dt>imp</dt>" in text and "<dt>q</dt>" in text and "<dt>kd</dt>" not in text
  assert "<h2>Table 1</h2>" in text and "<td>a&lt;b</td>" in text
  assert '<td class="n">89.90</td>' in text
  (picture,) = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
  assert base64.b64decode(picture) == png
