"""Figures of images: normalised as the network gets them, the same draws every time."""

import numpy as np
import torch
from image_folders import array_data

from cnnexp.data.batches import Normalise, as_float
from cnnexp.explore import pictures
from cnnexp.pages.style import style


def test_normalised_samples_are_what_the_network_gets():
    data = array_data(["a", "b"], [2, 2])
    image = data.train.images[0]
    batch = as_float(torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2))
    seen = Normalise(data.mean, data.std, torch.device("cpu"))(batch)[0].permute(1, 2, 0).numpy()
    shown = pictures.normalised(image, data) / 255 * 2 * pictures.SHOWN_STD - pictures.SHOWN_STD
    inside = np.abs(seen) < pictures.SHOWN_STD
    assert inside.any() and np.abs(shown - seen)[inside].max() < 2 * pictures.SHOWN_STD / 255
    assert (np.abs(shown)[~inside] == pictures.SHOWN_STD).all()


def test_samples_are_drawn_alike_every_time():
    data = array_data(["a", "b"], [6, 2], side=9)
    noise = pictures.Augmented("noise", lambda x, g: x + torch.randn(x.shape, generator=g))
    with style():
        first, second = (pictures.samples(data, noise) for _ in range(2))
    assert first == second and "augmented by noise, before normalising (seed 0)" in first.caption
