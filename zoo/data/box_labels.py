"""Boxes around the objects in images: COCO's JSON files and the text files of YOLO.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, https://cocodataset.org/#format-data;
Redmon et al., "You Only Look Once", CVPR 2016: a text file for each image, with a line for each object: the class,
then the middle, width and height as shares of the image's, or the corners of a polygon.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.picture_files import PictureFile
from zoo.errors import InputError
from zoo.storage.atomic import read_bytes

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

_LARGEST_JSON, _LARGEST_TEXT = 1 << 32, 1 << 24
#: Whole numbers up to it are told apart in float32, in which classes are kept with boxes.
_LARGEST_ID = 1 << 24
#: How far a share may lie outside 0 to 1 by rounding.
_SLACK = 1e-3
#: How far boxes in pixels may: those that people draw are cut at the edges, as COCO's own are.
_SLACK_PIXELS, _SLACK_SHARE = 2.0, 0.02


@dataclass(frozen=True)
class CocoFile:
    """What a JSON file says.

    Attributes:
        path: The file.
        categories: Names of the categories by their ids.
        boxes: For each image by the name that the file gives it: (n, 5) float32, x0, y0, x1, y1 in pixels of the
            image, and the id of the category.
        sizes: Width and height of the images for which the file states them, by the same names.
    """

    path: Path
    categories: Mapping[int, str]
    boxes: Mapping[str, FloatArray]
    sizes: Mapping[str, tuple[int, int]]


def read_coco(path: Path) -> CocoFile:
    """Read a JSON file of boxes. Crowds, and boxes without an area, are left out.

    Raises:
        InputError: It is not such a file, or refers to images or categories that it does not list.
    """
    try:
        content = json.loads(read_bytes(path, _LARGEST_JSON))
        images = {int(each["id"]): str(each["file_name"]) for each in content["images"]}
        sizes = {
            str(each["file_name"]): (int(each["width"]), int(each["height"]))
            for each in content["images"]
            if each.get("width") and each.get("height")
        }
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        if any(abs(number) > _LARGEST_ID for number in categories):
            raise InputError(
                f"{path} has a category with a number beyond {_LARGEST_ID:,}.", hint="Number them from 1 on."
            )
        found: dict[int, list[tuple[float, ...]]] = {number: [] for number in images}
        for each in content["annotations"]:
            image, category = int(each["image_id"]), int(each["category_id"])
            if image not in images or category not in categories:
                what = f"image {image}" if image not in images else f"category {category}"
                raise InputError(
                    f"{path}: annotation {each.get('id', '')} refers to {what}, which is not listed.",
                    hint="Export the annotations again.",
                )
            left, top, width, height = (float(value) for value in each["bbox"])
            if not all(map(math.isfinite, (left, top, width, height))) or width < 0 or height < 0:
                raise InputError(
                    f"{path}: the box of annotation {each.get('id', '')} is {each['bbox']}.",
                    hint="A box is left, top, width and height in pixels, none of them negative or NaN.",
                )
            if width > 0 and height > 0 and not each.get("iscrowd", 0):
                found[image].append((left, top, left + width, top + height, category))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a COCO file of boxes: {type(error).__name__}: {str(error)[:200]}",
            hint="It must hold the lists images, categories and annotations.",
        ) from error
    twice = [name for name, times in Counter(images.values()).items() if times > 1]
    if twice:
        raise InputError(f"{path} lists the image {twice[0]} twice.", hint="Remove one of the two.")
    return CocoFile(
        path, categories, {images[number]: _rows(boxes) for number, boxes in found.items()}, sizes
    )


def outside(boxes: FloatArray, size: tuple[int, int]) -> str:
    """Return the box that reaches beyond its image by more than rounding does, as a text; "" if none does.

    Args:
        boxes: (n, 5), x0, y0, x1, y1 in pixels of the image, and a class.
        size: Width and height of the image.
    """
    slack = [max(_SLACK_PIXELS, _SLACK_SHARE * side) for side in size]
    for x0, y0, x1, y1 in boxes[:, :4].tolist():
        if min(x0 + slack[0], y0 + slack[1]) < 0 or x1 > size[0] + slack[0] or y1 > size[1] + slack[1]:
            return f"{x0:g}, {y0:g} to {x1:g}, {y1:g}"
    return ""


def read_yolo(path: Path, size: tuple[int, int]) -> FloatArray:
    """Return the boxes of a text file, (n, 5) float32: x0, y0, x1, y1 in pixels of the image, and the class.

    Args:
        path: The file.
        size: Width and height of its image.

    Raises:
        InputError: A line is not as it should be; it is named.
    """
    try:
        lines = read_bytes(path, _LARGEST_TEXT).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: {error.reason}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            label, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            label, values = -1, []
        if label < 0 or len(values) < 4 or len(values) % 2:
            raise InputError(
                f"{path}, line {number}: a class and four numbers are required, not '{line.strip()[:60]}'.",
                hint="Lines are CLASS X Y WIDTH HEIGHT, as shares of the image.",
            )
        if len(values) == 4:
            x, y, width, height = values
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        else:
            corners = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        if not all(math.isfinite(each) and -_SLACK <= each <= 1 + _SLACK for each in (*values, *corners)):
            raise InputError(
                f"{path}, line {number}: '{line.strip()[:60]}' is not within the image.",
                hint="Numbers are shares of the image's width and height, from 0 to 1, not pixels.",
            )
        scaled = [corner * size[index % 2] for index, corner in enumerate(corners)]
        if scaled[2] > scaled[0] and scaled[3] > scaled[1]:
            rows.append((*scaled, label))
    return _rows(rows)


def find_by_name(names: Sequence[str], files: Sequence[PictureFile], near: str) -> dict[str, PictureFile]:
    """Return the files that an annotation file means by its names, by these names; some may be missing.

    Args:
        names: Names of images, perhaps with folders.
        files: All images there are.
        near: What the annotation file is called: of several files of one name, the one in a folder that this contains
            is meant, such as ``train2017`` of ``instances_train2017``.

    Raises:
        InputError: A name stands for several files.
    """
    by_base: dict[str, list[PictureFile]] = {}
    for file in files:
        by_base.setdefault(PurePosixPath(file.name).name, []).append(file)
    found: dict[str, PictureFile] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        meant = [
            file
            for file in by_base.get(parts[-1] if parts else "", [])
            if PurePosixPath(file.name).parts[-len(parts) :] == parts
        ]
        if len(meant) > 1:
            inside = [f for f in meant if any(p in near for p in PurePosixPath(f.name).parts[:-1])]
            meant = inside or meant
        if len(meant) > 1:
            raise InputError(
                f"The image {name} may be {meant[0].path} or {meant[1].path}.",
                hint="Name one folder with images=DIR.",
            )
        if meant:
            found[name] = meant[0]
    return found


def _rows(boxes: Sequence[tuple[Any, ...]]) -> FloatArray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 5)
