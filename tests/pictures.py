"""Makes a folder of pictures: shapes, whose form and color are the class.

python -m tests.pictures FOLDER [CLASSES [IMAGES]]     images of 96 to 224 pixels
"""

import colorsys
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FORMS = ("disc", "square", "triangle", "ring", "cross")


def write(root, splits, *, classes, sides, seed=0):
  """Writes a folder in the layout of `tfds.ImageFolder`.

  Args:
    root: the folder.
    splits: how many images each class has in a split, {"train": 8, "test": 2}.
    classes: number of classes.
    sides: smallest and largest side of an image, in pixels.
    seed: of places, sizes and noise.

  Returns:
    The folder.
  """
  rng = np.random.default_rng(seed)
  for split, count in splits.items():
    for label in range(classes):
      folder = Path(root) / split / f"class{label:03d}"
      folder.mkdir(parents=True)
      for i in range(count):
        side = sides[0] + int(rng.integers(sides[1] - sides[0] + 1))
        ending = "jpg" if i % 2 else "png"
        picture(rng, label, classes, side).save(folder / f"image{i:02d}.{ending}")
  return root


def picture(rng, label, classes, side):
  """Returns one picture: a form in the class's color before a noisy ground.

  Args:
    rng: NumPy's, of place, size and noise.
    label: the class, from 0.
    classes: number of classes.
    side: of the picture, in pixels.
  """
  ground = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
  image = Image.fromarray(ground)
  draw, half = ImageDraw.Draw(image), side * (0.2 + 0.15 * rng.random())
  x, y = side / 2 + side * 0.15 * (rng.random(2) - 0.5)
  hue = label / classes + 0.02 * (rng.random() - 0.5)
  color = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, 0.9, 0.7 + 0.3 * rng.random()))
  box, form = (x - half, y - half, x + half, y + half), FORMS[label % len(FORMS)]
  if form in ("disc", "ring"):
    draw.ellipse(box, fill=color if form == "disc" else None, outline=color,
                 width=max(1, int(half / 3)))
  elif form == "square":
    draw.rectangle(box, fill=color)
  elif form == "triangle":
    draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=color)
  else:
    for a, b in ((half, half / 3), (half / 3, half)):
      draw.rectangle((x - a, y - b, x + a, y + b), fill=color)
  return image


def main(folder, classes="20", images="12"):
  """Writes a folder of pictures; the arguments are those of the command line.

  Args:
    folder: the folder.
    classes: number of classes.
    images: of each class, a sixth of them for validation and a sixth for the test.
  """
  each = max(1, int(images) // 6)
  write(folder, {"train": int(images) - 2 * each, "valid": each, "test": each},
        classes=int(classes), sides=(96, 224))


if __name__ == "__main__":
  main(*sys.argv[1:])
