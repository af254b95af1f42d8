"""Small images with boxes, in the files of COCO and of YOLO, and specs of a detector."""

from __future__ import annotations

import json
from pathlib import Path

from support.class_folders import write_picture
from zoo.contracts import Architecture, InputSpec, OutputSpec

#: Width and height of the images.
SIZE = 60, 40
#: x, y, width, height of the box of image number k start at k.
BOX = 10, 8, 20, 16
#: The categories, with a gap in their ids.
CATEGORIES = {1: "car", 2: "dog", 7: "bus"}


class Detector(Architecture):
    """Specs of a detector; it is never built."""

    id = "a-detector"
    task = "detection"

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.input = InputSpec("rgb", 3, multiple_of=4, example=(32, 32))
        self.output = OutputSpec("boxes", classes)


def coco_content(count: int, start: int = 0) -> dict[str, list[dict[str, object]]]:
    """Return the content of a JSON file; image k has one box of category k modulo 3, and every fifth none."""
    ids = list(CATEGORIES)
    numbers = range(start, start + count)
    return {
        "images": [
            {"id": 100 + k, "file_name": f"{k}.png", "width": SIZE[0], "height": SIZE[1]} for k in numbers
        ],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
        "annotations": [
            {
                "id": k,
                "image_id": 100 + k,
                "category_id": ids[k % 3],
                "bbox": [BOX[0] + k % 4, *BOX[1:]],
                "iscrowd": 0,
            }
            for k in numbers
            if k % 5 != 4
        ],
    }


def write_coco(root: Path, count: int = 12) -> None:
    """Write images and one JSON file."""
    for number in range(count):
        write_picture(root / f"images/{number}.png", number, *SIZE)
    (root / "annotations.json").write_text(json.dumps(coco_content(count)))


def write_yolo(root: Path, count: int = 12) -> None:
    """Write images, their text files, and names of classes."""
    for number in range(count):
        write_picture(root / f"images/{number}.png", number, *SIZE)
        x, y, width, height = BOX[0] + number % 4, *BOX[1:]
        shares = (x + width / 2) / SIZE[0], (y + height / 2) / SIZE[1], width / SIZE[0], height / SIZE[1]
        path = root / f"labels/{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if number % 5 == 4 else f"{number % 3} {' '.join(map(str, shares))}\n")
    (root / "data.yaml").write_text("names: [car, dog, bus]\n")
