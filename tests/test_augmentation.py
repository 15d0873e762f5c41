"""Augmented windows of frames against numpy's padding and slicing, and what is drawn for them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from playfield._ext.augment import gather_views
from playfield.buffers.augmentation import Augmentation, Augmenter, Choices, augment_frames
from playfield.buffers.generator import CounterGenerator
from playfield.buffers.store import FrameStore


def padded_view(frame, dy, dx, flip, size):
    """The oracle: pad `[C, H, W]` far enough, slice, mirror."""
    reach = max(abs(dy), abs(dx)) + max(size)
    padded = np.pad(frame, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    view = padded[:, reach + dy : reach + dy + size[0], reach + dx : reach + dx + size[1]]
    return view[:, :, ::-1] if flip else view


def filled_store(frame_shape, frames=40, seed=0, dtype="uint8", device="cpu"):
    """One stream, one episode of random pictures."""
    store = FrameStore(frames, 1, frame_shape, dtype, device=device)
    pictures = np.random.default_rng(seed).integers(1, 256, (frames, 1, *frame_shape))
    for t, picture in enumerate(pictures.astype(dtype)):
        nothing = np.zeros(1, bool)
        store.append(
            SimpleNamespace(
                frames=picture, reward=np.zeros(1, np.float32), terminated=nothing,
                truncated=nothing, life_lost=nothing, first=np.array([t == 0]),
            )
        )  # fmt: skip
    return store


def by_kernel(table, frame_shape, rows, choices):
    out = np.full((rows.size, frame_shape[0] * choices.size[0] * choices.size[1]), 7, np.uint8)
    gather_views(table, frame_shape, rows, choices.dy, choices.dx, choices.flip, choices.size, out)
    count, window = rows.shape
    return out.reshape(count, window * frame_shape[0], *choices.size)


def by_torch(table, frame_shape, rows, choices):
    frames = np.where(rows[..., None] < 0, np.uint8(0), table[rows])
    frames = frames.reshape(len(rows), rows.shape[1] * frame_shape[0], *frame_shape[1:])
    return augment_frames(torch.from_numpy(frames), choices).numpy()


sides = st.integers(1, 40)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    frame_shape=st.tuples(st.integers(1, 3), sides, sides),
    size=st.tuples(sides, sides) | st.none(),  # None: that of the frames
    reach=st.integers(0, 50),
    window=st.integers(1, 4),
)
@example(seed=1, frame_shape=(1, 84, 84), size=None, reach=4, window=4)
def test_both_twins_show_the_view_that_padding_and_slicing_show(
    seed, frame_shape, size, reach, window
):
    rng = np.random.default_rng(seed)
    size = size or frame_shape[1:]
    table = rng.integers(1, 256, (9, frame_shape[0] * frame_shape[1] * frame_shape[2]), np.uint8)
    rows = rng.integers(-1, 9, (6, window))
    offsets = rng.integers(-reach, reach + 1, (2, 6))
    choices = Choices(offsets[0], offsets[1], rng.integers(0, 2, 6), size)
    expected = [
        np.concatenate(
            [
                padded_view(
                    table[row].reshape(frame_shape) if row >= 0 else np.zeros(frame_shape),
                    choices.dy[b], choices.dx[b], choices.flip[b], size,
                )
                for row in rows[b]
            ]
        )
        for b in range(6)
    ]  # fmt: skip
    np.testing.assert_array_equal(by_kernel(table, frame_shape, rows, choices), expected)
    np.testing.assert_array_equal(by_torch(table, frame_shape, rows, choices), expected)


def test_a_shift_pads_by_repeating_the_border_and_cuts_back_to_the_size():
    """The sentence of the DrQ paper, pixel by pixel, for each of its 9 x 9 offsets."""
    frame_shape, pad = (1, 6, 7), 4
    frame = np.arange(1, 43, dtype=np.uint8).reshape(frame_shape)
    padded = np.pad(frame, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    at = np.array([(y, x) for y in range(2 * pad + 1) for x in range(2 * pad + 1)])
    choices = Choices(at[:, 0] - pad, at[:, 1] - pad, np.zeros(len(at), np.int64), (6, 7))
    shown = by_kernel(frame.reshape(1, -1), frame_shape, np.zeros((len(at), 1), np.int64), choices)
    for (y, x), view in zip(at, shown, strict=True):
        np.testing.assert_array_equal(view, padded[:, y : y + 6, x : x + 7])


def test_shift_then_crop_then_flip_is_what_one_view_shows():
    augmenter = Augmenter(Augmentation(shift=3, flip=True, crop=(5, 8)), (2, 9, 12), seed=4)
    store = filled_store((2, 9, 12))
    rows = np.arange(40).reshape(40, 1)
    shown = augmenter.gather(store, rows).numpy()
    # Numbers 0 to 4 of each sample, as documented: shift y, shift x, crop y, crop x, flip.
    numbers = CounterGenerator(4, stream=1).uniforms(5 * 40).reshape(40, 5)
    for row, (shift_y, shift_x, crop_y, crop_x, flip) in enumerate(numbers):
        frame = store.frames[0, row].numpy()
        padded = np.pad(frame, ((0, 0), (3, 3), (3, 3)), mode="edge")
        y, x = int(shift_y * 7), int(shift_x * 7)
        shifted = padded[:, y : y + 9, x : x + 12]
        y, x = int(crop_y * 5), int(crop_x * 5)
        cropped = shifted[:, y : y + 5, x : x + 8]
        expected = cropped[:, :, ::-1] if flip >= 0.5 else cropped
        np.testing.assert_array_equal(shown[row], expected)


def test_with_nothing_switched_on_frames_are_as_stored():
    store = filled_store((2, 9, 12))
    rows = np.array([[-1, 0, 1], [5, 6, 7]])
    shown = Augmenter(Augmentation(), (2, 9, 12), seed=0).gather(store, rows)
    assert torch.equal(shown, store.gather(rows))


def test_shifts_are_uniform_and_independent_in_both_directions():
    choices = Augmenter(Augmentation(shift=4), (1, 84, 84), seed=11).choices(40_500)
    assert {*choices.dy} == {*choices.dx} == {*range(-4, 5)}
    cells = np.bincount(9 * (choices.dy + 4) + choices.dx + 4, minlength=81)
    assert stats.chisquare(cells).pvalue > 1e-3
    assert not choices.flip.any()


def test_crops_are_uniform_over_all_places_inside():
    choices = Augmenter(Augmentation(crop=(28, 30)), (3, 32, 32), seed=12).choices(15_000)
    cells = np.bincount(3 * choices.dy + choices.dx, minlength=15)
    assert choices.dy.min() == choices.dx.min() == 0
    assert (choices.dy.max(), choices.dx.max()) == (4, 2)
    assert stats.chisquare(cells).pvalue > 1e-3


def test_half_of_all_samples_are_mirrored():
    flips = Augmenter(Augmentation(flip=True), (3, 32, 32), seed=13).choices(10_000).flip
    assert {*flips} == {0, 1}
    assert stats.binomtest(int(flips.sum()), 10_000).pvalue > 1e-3


def test_switching_one_augmentation_on_leaves_the_others_choices_as_they_are():
    def second_draw(**switched_on):
        augmenter = Augmenter(Augmentation(**switched_on), (1, 20, 20), seed=5)
        augmenter.choices(30)
        return augmenter.choices(50)

    both = second_draw(shift=4, flip=True)
    np.testing.assert_array_equal(second_draw(shift=4).dy, both.dy)
    np.testing.assert_array_equal(second_draw(shift=4).dx, both.dx)
    np.testing.assert_array_equal(second_draw(flip=True).flip, both.flip)
    assert not np.array_equal(both.dy, both.dx)


def test_all_frames_of_a_stack_show_the_same_view_and_other_samples_another():
    store = filled_store((1, 16, 16))
    for t in range(1, 40):
        store.frames[0, t] = store.frames[0, 0]
    augmenter = Augmenter(Augmentation(shift=4, flip=True), (1, 16, 16), seed=3)
    shown = augmenter.gather(store, np.arange(40).reshape(10, 4))
    assert (shown == shown[:, :1]).all()
    assert len({views.numpy().tobytes() for views in shown}) > 5


def test_frames_before_the_episode_are_zero_up_to_the_border():
    store = filled_store((1, 16, 16))
    augmenter = Augmenter(Augmentation(shift=4, flip=True), (1, 16, 16), seed=3)
    shown = augmenter.gather(store, np.array([[-1, -1, 0]] * 20))
    assert not shown[:, :2].any()
    assert shown[:, 2].all()


def test_a_part_of_the_rows_is_read_as_it_lies_and_written_where_told():
    store = filled_store((1, 12, 10))
    rows = np.arange(5)[None] + np.arange(8)[:, None]  # [8, 5]: obs and next_obs of one step
    ours, theirs = (Augmenter(Augmentation(shift=2), (1, 12, 10), seed=6) for _ in range(2))
    out = ours.empty((8, 4), store.device)
    assert ours.gather(store, rows[:, -4:], out) is out
    assert torch.equal(out, theirs.gather(store, np.ascontiguousarray(rows[:, -4:])))


def test_every_placement_gives_the_same_bytes():
    store = filled_store((3, 11, 14))
    mapped = filled_store((3, 11, 14), device="mmap")
    rows = np.random.default_rng(2).integers(-1, 40, (32, 3))
    augmentation = Augmentation(shift=4, flip=True, crop=(8, 9))
    here, there, twin = (Augmenter(augmentation, (3, 11, 14), seed=8) for _ in range(3))
    expected = here.gather(store, rows)
    assert torch.equal(there.gather(mapped, rows), expected)
    assert torch.equal(augment_frames(store.gather(rows), twin.choices(32)), expected)
    out = torch.zeros_like(expected)
    again = Augmenter(augmentation, (3, 11, 14), seed=8)
    augment_frames(store.gather(rows), again.choices(32), out)
    assert torch.equal(out, expected)


@pytest.mark.gpu
def test_a_store_on_the_gpu_gives_the_same_bytes():
    rows = np.random.default_rng(2).integers(-1, 40, (64, 4))
    augmentation = Augmentation(shift=4, flip=True, crop=(20, 31))
    here, there = (Augmenter(augmentation, (1, 24, 36), seed=8) for _ in range(2))
    store, on_gpu = filled_store((1, 24, 36)), filled_store((1, 24, 36), device="cuda")
    for out in (None, there.empty(rows.shape, on_gpu.device)):
        shown = there.gather(on_gpu, rows, out)
        assert shown.device.type == "cuda"
        assert torch.equal(shown.cpu(), here.gather(store, rows))


def test_choices_are_a_function_of_the_seed_and_go_on_after_a_restore():
    augmentation = Augmentation(shift=4, flip=True)
    ours, same, restored = (
        Augmenter(augmentation, (1, 84, 84), seed) for seed in (1, 1, 2)
    )  # fmt: skip
    first, other = ours.choices(1000), restored.choices(1000)
    assert np.array_equal(first.dy, same.choices(1000).dy)
    assert not np.array_equal(first.dy, other.dy)
    restored.load_state_dict(ours.state_dict())
    for _ in range(3):
        a, b = ours.choices(400), restored.choices(400)
        assert all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("dy", "dx", "flip"))


def test_a_batch_drawn_in_parts_is_the_batch_drawn_at_once():
    one, two = (Augmenter(Augmentation(shift=4), (1, 84, 84), seed=1) for _ in range(2))
    parts = [one.choices(30).dx, one.choices(70).dx]
    assert np.array_equal(np.concatenate(parts), two.choices(100).dx)


def test_another_generators_state_is_refused_by_field():
    augmenter = Augmenter(Augmentation(shift=4), (1, 84, 84), seed=1)
    with pytest.raises(ValueError, match=r"^generator: 'pcg64'"):
        augmenter.load_state_dict({**augmenter.state_dict(), "generator": "pcg64"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shift", -1),
        ("shift", 1.5),
        ("shift", True),
        ("flip", 1),
        ("crop", 64),
        ("crop", (64,)),
        ("crop", (0, 64)),
        ("crop", [64, 64]),
        ("crop", (64, 64.0)),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field}="):
        replace(Augmentation(), **{field: value})


@pytest.mark.parametrize(
    ("frame_shape", "frame_dtype"), [((8,), "float32"), ((8,), "uint8"), ((1, 8, 8), "float32")]
)
def test_only_uint8_pictures_are_augmented(frame_shape, frame_dtype):
    with pytest.raises(ValueError, match=rf"needs uint8 pictures .* are {frame_dtype} \["):
        Augmenter(Augmentation(shift=1), frame_shape, 0, frame_dtype)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (Augmentation(shift=8), "shift=8 moves frames of 8x12 out of sight"),
        (Augmentation(crop=(9, 9)), r"crop=\(9, 9\) is larger than frames of 8x12"),
        (Augmentation(crop=(8, 13)), r"crop=\(8, 13\) is larger than frames of 8x12"),
    ],
)
def test_what_does_not_fit_in_the_frames_is_refused(augmentation, message):
    with pytest.raises(ValueError, match=message):
        Augmenter(augmentation, (3, 8, 12), 0)


@pytest.mark.parametrize(("frame_shape", "dtype"), [((1, 9, 8), "uint8"), ((1, 8, 9), "float32")])
def test_a_store_of_other_frames_is_refused(frame_shape, dtype):
    augmenter = Augmenter(Augmentation(shift=1), (1, 8, 9), 0)
    store = filled_store(frame_shape, dtype=dtype)
    with pytest.raises(ValueError, match=rf"store's frames are {dtype} .* expected uint8 \[1, 8,"):
        augmenter.gather(store, np.zeros((2, 1), np.int64))


def test_the_kernel_refuses_what_does_not_fit_before_it_writes():
    table = np.ones((3, 20), np.uint8)
    rows, zeros = np.array([[0], [2]]), np.zeros(2, np.int64)
    out = np.full((2, 20), 7, np.uint8)
    fitting = (table, (1, 4, 5), rows, zeros, zeros, zeros, (4, 5), out)

    def call(**changed):
        names = ("table", "frame_shape", "rows", "dy", "dx", "flip", "size", "out")
        gather_views(*(dict(zip(names, fitting, strict=True)) | changed).values())

    with pytest.raises(IndexError, match="row 3 of a table of 3"):
        call(rows=np.array([[0], [3]]))
    with pytest.raises(ValueError, match=r"rows of 20 bytes are no frames of \(1, 4, 6\)"):
        call(frame_shape=(1, 4, 6))
    with pytest.raises(ValueError, match=r"dy, dx and flip are \[2\], \[1\] and \[2\]"):
        call(dx=zeros[:1])
    with pytest.raises(ValueError, match=r"out is \[2, 20\], expected \[2, 12\]"):
        call(size=(4, 3))
    with pytest.raises(ValueError, match="have to have pixels"):
        call(size=(0, 5))
    assert (out == 7).all()
    call()
    assert (out == 1).all()
