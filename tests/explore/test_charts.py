"""The figure of images per class, for few classes and for many."""

from xml.etree import ElementTree

import numpy as np
import pytest

from cnnexp.explore import charts
from cnnexp.pages.style import style


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_class_counts_are_drawn_for_any_number_of_classes(classes):
    names = [f"{'a long name of a class ' * 3}{k}" for k in range(classes)]
    sizes = {"train": np.arange(1, classes + 1), "test": np.ones(classes, np.int64)}
    with style():
        figure = charts.class_counts(sizes, names)
    root = ElementTree.fromstring(figure.svg)
    height = float(root.attrib["height"].removesuffix("pt"))
    assert height < 72 * 11
    assert (names[-1] not in figure.svg.decode()) and (f"{classes:,}" in figure.svg.decode() + figure.caption)
