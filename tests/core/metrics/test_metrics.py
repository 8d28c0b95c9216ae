import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from facemorph_core.metrics import hull_masks, psnr, psnr_hull, ssim, ssim_hull
from facemorph_core.metrics.hull import hull_mask


def images(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth colour noise with hard edges, as uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (*shape[:-3], 4, 4, 3)).repeat(8, -3).repeat(8, -2)
    fine = rng.integers(-20, 21, shape)
    return np.clip(coarse[..., : shape[-3], : shape[-2], :] + fine, 0, 255).astype(np.uint8)


seeds = st.integers(0, 2**32 - 1)
sides = st.integers(11, 32)


@settings(max_examples=25)
@given(seed=seeds, height=sides, width=sides)
def test_psnr_is_that_of_scikit_image(seed, height, width):
    a, b = images(seed, (2, height, width, 3)), images(seed + 1, (2, height, width, 3))
    truth = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(a, b), truth, rtol=1e-12)


@settings(max_examples=25)
@given(seed=seeds, height=sides, width=sides)
def test_ssim_is_that_of_scikit_image(seed, height, width):
    a, b = images(seed, (2, height, width, 3)), images(seed + 1, (2, height, width, 3))
    truth = [
        structural_similarity(
            x,
            y,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1,
            data_range=255,
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), truth, atol=1e-9)


def test_one_ssim_window_by_hand():
    a, b = images(0, (11, 11, 3)), images(1, (11, 11, 3))
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    weights = np.outer(line, line) / np.outer(line, line).sum()

    def score(x, y):
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        both = (weights * (x - mean_x) * (y - mean_y)).sum()
        c1, c2 = 2.55**2, 7.65**2
        above = (2 * mean_x * mean_y + c1) * (2 * both + c2)
        return above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))

    by_hand = np.mean([score(a[..., c].astype(float), b[..., c].astype(float)) for c in range(3)])
    assert ssim(a, b) == pytest.approx(by_hand, abs=1e-9)


@settings(max_examples=20)
@given(seed=seeds)
@pytest.mark.parametrize("metric", [psnr, ssim])
def test_order_does_not_matter_and_a_batch_is_its_images(metric, seed):
    a, b = images(seed, (3, 20, 24, 3)), images(seed + 1, (3, 20, 24, 3))
    forth, back = metric(a, b), metric(b, a)
    assert forth.shape == (3,)
    assert forth.dtype == np.float64
    np.testing.assert_allclose(forth, back, rtol=1e-12)
    alone = [metric(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(forth, alone, rtol=1e-12)


def test_a_perfect_copy():
    a = images(0, (2, 16, 16, 3))
    everything = np.ones((2, 16, 16), bool)
    assert np.isposinf(psnr(a, a)).all()
    assert np.isposinf(psnr_hull(a, a, everything)).all()
    np.testing.assert_allclose(ssim(a, a), 1, rtol=1e-12)
    np.testing.assert_allclose(ssim_hull(a, a, everything), 1, rtol=1e-12)


@given(step=st.integers(1, 255))
def test_psnr_of_a_constant_error_is_the_formula(step):
    black = np.zeros((1, 4, 4, 3), np.uint8)
    assert psnr(black, black + np.uint8(step))[0] == pytest.approx(20 * np.log10(255 / step))


def test_the_range_of_the_values_is_an_argument():
    a, b = images(2, (1, 16, 16, 3)), images(3, (1, 16, 16, 3))
    as_model_sees_it = (x / 127.5 - 1.0 for x in (a, b))
    np.testing.assert_allclose(psnr(*as_model_sees_it, peak=2.0), psnr(a, b), rtol=1e-9)
    np.testing.assert_allclose(ssim(a / 255, b / 255, peak=1.0), ssim(a, b), rtol=1e-9)


@settings(max_examples=20)
@given(seed=seeds)
def test_a_mask_of_everything_changes_nothing(seed):
    a, b = images(seed, (2, 16, 20, 3)), images(seed + 1, (2, 16, 20, 3))
    everything = np.ones((2, 16, 20), bool)
    np.testing.assert_allclose(psnr_hull(a, b, everything), psnr(a, b), rtol=1e-12)
    np.testing.assert_allclose(ssim_hull(a, b, everything), ssim(a, b), rtol=1e-12)


def test_what_lies_outside_the_mask_does_not_count():
    a = images(4, (1, 32, 32, 3))
    masks = np.zeros((1, 32, 32), bool)
    masks[:, 14:18, 14:18] = True
    b, c = a.copy(), a.copy()
    b[:, 14:18, 14:18] ^= 7
    c[:, 14:18, 14:18] ^= 7
    c[:, :5] = 0  # farther from the mask than a window reaches
    np.testing.assert_array_equal(psnr_hull(a, b, masks), psnr_hull(a, c, masks))
    np.testing.assert_allclose(ssim_hull(a, b, masks), ssim_hull(a, c, masks), rtol=1e-12)
    assert psnr(a, c) < psnr(a, b)


def test_an_empty_mask_has_no_score():
    a, b = images(5, (2, 16, 16, 3)), images(6, (2, 16, 16, 3))
    masks = np.zeros((2, 16, 16), bool)
    masks[0] = True
    assert np.isnan(psnr_hull(a, b, masks)).tolist() == [False, True]
    assert np.isnan(ssim_hull(a, b, masks)).tolist() == [False, True]


def test_other_shapes_are_refused():
    a = images(7, (2, 16, 16, 3))
    with pytest.raises(ValueError, match="of one shape"):
        psnr(a, a[:1])
    with pytest.raises(ValueError, match="of one shape"):
        ssim(a, a[:1])
    with pytest.raises(ValueError, match="masks are"):
        psnr_hull(a, a, np.ones((16, 16), bool))
    with pytest.raises(ValueError, match="masks are"):
        ssim_hull(a, a, np.ones((16, 16), bool))
    with pytest.raises(ValueError, match="11x11"):
        ssim(a[:, :10], a[:, :10])


def test_no_images_have_no_scores():
    none = np.zeros((0, 16, 16, 3), np.uint8)
    assert psnr(none, none).shape == (0,)
    assert ssim(none, none).shape == (0,)
    assert hull_masks(np.zeros((0, 68, 2)), (16, 16)).shape == (0, 16, 16)


def signed_distances(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Distance of each pixel centre into the hull of ``points``, by its half-planes."""
    from scipy.spatial import ConvexHull

    y, x = np.mgrid[: size[0], : size[1]]
    equations = ConvexHull(points).equations
    return -np.max([a * x + b * y + c for a, b, c in equations], axis=0)


@settings(max_examples=30)
@given(seed=seeds)
def test_the_hull_mask_is_the_hull(seed):
    points = np.random.default_rng(seed).uniform(-8, 48, (68, 2))
    mask = hull_mask(points, (30, 40))
    depth = signed_distances(points, (30, 40))
    assert mask[depth > 0.01].all()
    assert not mask[depth < -1].any()


def test_the_hull_takes_x_before_y():
    wide = np.array([[2, 4], [17, 4], [17, 6], [2, 6]], float)
    mask = hull_mask(wide, (10, 20))
    assert mask[5, 2:18].all()
    assert mask.sum() == 3 * 16


def test_landmarks_far_outside_leave_an_empty_mask():
    assert not hull_mask(np.full((68, 2), 1e9), (10, 10)).any()


def test_a_single_image_has_a_single_score():
    a, b = images(8, (16, 16, 3)), images(9, (16, 16, 3))
    mask = np.ones((16, 16), bool)
    for score in (psnr(a, b), ssim(a, b), psnr_hull(a, b, mask), ssim_hull(a, b, mask)):
        assert score.shape == ()
