"""Batches: pure functions of the step, over each epoch a permutation, normalised as the formula says."""

import numpy as np
import pytest
import torch

from cnnexp.data import augment
from cnnexp.data.batches import Batches, DeviceImages, Normalise, in_order
from cnnexp.data.images import Split
from cnnexp.errors import UserError

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CPU = torch.device("cpu")
NORMALISE = Normalise(MEAN, STD, CPU)


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """Every other row of a memory map, as when validation has the others."""
    file = tmp_path_factory.mktemp("map") / "images.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (46, 6, 5, 3), dtype=np.uint8))
    images = np.load(file, mmap_mode="r")
    rows = np.arange(0, 46, 2)
    return Split(images, rows, rows % 7, np.array([f"train/{r}" for r in rows]))


def batches(split: Split, seed: int = 0, augmentation=None, on_device: bool | None = None) -> Batches:
    return Batches(DeviceImages(split, CPU, on_device), 5, seed, augmentation, NORMALISE)


def expected(split: Split, rows: torch.Tensor) -> torch.Tensor:
    pixels = torch.from_numpy(split.images[split.indices[rows.numpy()]].astype(np.float64)).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)) / torch.tensor(STD).double().view(3, 1, 1)


@pytest.mark.parametrize("on_device", [None, False, True])
def test_a_batch_has_the_images_at_its_positions(split, on_device):
    batch = batches(split, on_device=on_device).at(6)
    assert batch.epoch == 1 and batch.images.dtype == torch.float32 and batch.images.shape == (5, 3, 6, 5)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.labels, torch.from_numpy(split.labels)[batch.positions])
    torch.testing.assert_close(batch.images.double(), expected(split, batch.positions), atol=1e-6, rtol=0)


def test_batches_are_the_same_from_the_device_and_the_memory_map(split):
    flip = augment.pipeline([{"flip": {"p": 0.5}}])
    for step in (0, 5, 9):
        first, second, third = (batches(split, 3, flip, on_device).at(step) for on_device in (None, False, True))
        assert torch.equal(first.images, second.images) and torch.equal(first.images, third.images)


def test_an_epoch_is_a_permutation_without_the_partial_batch(split):
    made = batches(split)
    assert made.steps_per_epoch == 4  # of 23 images, 5 at a time
    epochs = [torch.cat([made.at(epoch * 4 + i).positions for i in range(4)]).tolist() for epoch in range(3)]
    for rows in epochs:
        assert len(set(rows)) == 20 and set(rows) <= set(range(23))
    assert epochs[0] != epochs[1] != epochs[2]
    assert len({*epochs[0], *epochs[1], *epochs[2]}) == 23  # other images are left out each time


def test_at_is_pure_in_any_order_of_asking(split):
    full = augment.pipeline([{"rotate": {"degrees": 20}}, {"crop": {"padding": 1}}])
    made = batches(split, 1, full)
    forward = [made.at(step).images for step in range(9)]
    for step in reversed(range(9)):
        assert torch.equal(made.at(step).images, forward[step])
        assert torch.equal(batches(split, 1, full).at(step).images, forward[step])
    assert not torch.equal(batches(split, 2, full).at(0).images, forward[0])


def test_augmentation_leaves_order_and_labels_and_the_global_generator_alone(split):
    state = torch.get_rng_state()
    flip = augment.pipeline([{"flip": {"p": 1.0}}])
    plain, mirrored = batches(split).at(7), batches(split, 0, flip).at(7)
    assert torch.equal(plain.positions, mirrored.positions) and torch.equal(plain.labels, mirrored.labels)
    torch.testing.assert_close(plain.images.flip(-1), mirrored.images)
    assert torch.equal(torch.get_rng_state(), state)


def test_augmentation_sees_pixels_between_0_and_1(split):
    seen = []
    batches(split, 0, lambda x, generator: seen.append(x.clone()) or x).at(0)
    assert seen[0].dtype == torch.float32 and seen[0].min() >= 0 and 0.99 < seen[0].max() <= 1


def test_in_order_yields_the_whole_split_once(split):
    made = list(in_order(DeviceImages(split, CPU), 10, NORMALISE))
    assert [len(b.images) for b in made] == [10, 10, 3]
    assert torch.cat([b.positions for b in made]).tolist() == list(range(23))
    torch.testing.assert_close(
        torch.cat([b.images for b in made]).double(), expected(split, torch.arange(23)), atol=1e-6, rtol=0
    )


def test_a_batch_larger_than_the_data_is_an_error(split):
    with pytest.raises(UserError, match="batch_size: given 24; allowed: at most 23"):
        Batches(DeviceImages(split, CPU), 24, 0, None, NORMALISE)


def test_the_map_is_not_written(split):
    before = np.array(split.images)
    made = batches(
        split, 0, augment.pipeline([{"jitter": {"brightness": 1, "contrast": 1, "saturation": 1, "order": "random"}}])
    )
    for step in range(4):
        made.at(step)
    assert np.array_equal(split.images, before)


def test_gray_images_pass_every_operation():
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), dtype=np.uint8)
    split = Split(images, np.arange(8), np.arange(8) % 2, np.array([str(i) for i in range(8)]))
    ops = [
        {"flip": {"p": 0.5}},
        {"rotate": {"degrees": 10}},
        {"jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "order": "random"}},
        {"crop": {"padding": 1}},
    ]
    batch = Batches(DeviceImages(split, CPU), 8, 0, augment.pipeline(ops), Normalise([0.5], [0.5], CPU)).at(0)
    assert batch.images.shape == (8, 1, 6, 6) and batch.images.abs().max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("on_device", [None, False])
def test_cuda_draws_and_computes_the_same(split, on_device):
    ops = [{"flip": {"p": 0.5}}, {"rotate": {"degrees": 10}}, {"crop": {"padding": 1}}]
    ops.append({"jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "order": "random"}})
    cuda = torch.device("cuda")
    normalise = Normalise(MEAN, STD, cuda)
    there = Batches(DeviceImages(split, cuda, on_device), 5, 0, augment.pipeline(ops), normalise)
    here = batches(split, 0, augment.pipeline(ops))
    for step in range(6):
        one, other = here.at(step), there.at(step)
        assert torch.equal(one.positions, other.positions) and torch.equal(one.labels, other.labels.cpu())
        assert other.images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(one.images, other.images.cpu(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_images_have_the_requested_memory_layout(split, layout):
    images = DeviceImages(split, CPU)
    normalise = Normalise(MEAN, STD, CPU, layout)
    for batch in (Batches(images, 5, 0, None, normalise).at(0), next(in_order(images, 5, normalise))):
        assert batch.images.is_contiguous(memory_format=layout)
