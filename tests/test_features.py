"""Maps of embeddings: what a map promises, on groups whose truth is known."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn import manifold
from sklearn.neighbors import NearestNeighbors

from cifar_core import features, umap
from cifar_core.features import (
    INTERPOLATED_FROM,
    METHODS,
    Mapping,
    aligned,
    disparity,
    joined,
    kept_neighbours,
    laid_out,
    neighbours_of,
    on_map,
    project,
    shares_of_variance,
    trustworthiness,
    vote_accuracy,
)


def groups(count: int = 300, dimensions: int = 64, *, number: int = 6, distance: float = 10, seed: int = 0):
    """Gaussian blobs with deviation 1 and centres about `distance` apart, and which each image belongs to."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(number, dimensions)) * distance / np.sqrt(2 * dimensions)
    labels = np.arange(count) % number
    return (centres[labels] + chance.normal(size=(count, dimensions)) / 2).astype(np.float32), labels


def last(layouts) -> np.ndarray:
    *_, layout = layouts
    return layout.points


def purity(points: np.ndarray, labels: np.ndarray, neighbours: int = 5) -> float:
    """Share of the nearest neighbours that belong to the same group."""
    nearest = NearestNeighbors(n_neighbors=neighbours).fit(points).kneighbors(return_distance=False)
    return float((labels[nearest] == labels[:, None]).mean())


def test_separated_groups_are_separated_on_the_map():
    embeddings, labels = groups()
    points = last(project(embeddings))
    assert purity(points, labels) > 0.99
    centres = np.stack([points[labels == group].mean(0) for group in range(6)])
    radius = max(np.linalg.norm(points[labels == group] - centres[group], axis=1).mean() for group in range(6))
    gaps = [np.linalg.norm(one - other) for one, other in itertools.combinations(centres, 2)]
    assert min(gaps) > 2 * radius
    assert trustworthiness(embeddings, points) > 0.9


def test_the_map_is_better_than_the_first_two_principal_components_it_begins_with():
    embeddings, labels = groups(number=20, distance=5)
    first, *_, finished = project(embeddings)
    assert purity(finished.points, labels) > purity(first.points, labels) + 0.2
    assert trustworthiness(embeddings, finished.points) > trustworthiness(embeddings, first.points)


def test_the_initial_layout_is_that_of_the_principal_components():
    embeddings, _ = groups(distance=30)
    centred = embeddings.astype(np.float64) - embeddings.mean(0, dtype=np.float64)
    expected = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    points = next(project(embeddings)).points
    for axis in (0, 1):
        assert abs(np.corrcoef(points[:, axis], expected[:, axis])[0, 1]) > 0.999
    assert points[:, 0].std() == pytest.approx(1e-4, rel=0.01)


def test_progress_rises_in_small_steps_to_the_total():
    embeddings, _ = groups(40)
    layouts = list(project(embeddings, iterations=110))
    assert [layout.iteration for layout in layouts] == [0, 25, 36, 61, 86, 110]
    assert {layout.total for layout in layouts} == {110}
    assert all(layout.points.shape == (40, 2) and layout.points.dtype == np.float32 for layout in layouts)


def test_a_layout_that_was_kept_does_not_change_when_the_next_is_asked_for():
    layouts = project(groups(40)[0], iterations=100)
    kept = list(itertools.islice(layouts, 3))
    before = [layout.points.copy() for layout in kept]
    last(layouts)
    for layout, points in zip(kept, before, strict=True):
        np.testing.assert_array_equal(layout.points, points)
    assert not np.array_equal(before[1], before[2])


def test_early_exaggeration_gathers_and_the_rest_spreads_the_points():
    layouts = list(project(groups()[0]))
    extent = {layout.iteration: np.ptp(layout.points) for layout in layouts}
    assert len(layouts) == 31
    assert extent[750] > 2 * extent[250] > 0


def test_the_same_seed_gives_the_same_map_and_another_seed_another():
    embeddings, _ = groups(100)
    first = last(project(embeddings, iterations=100, seed=1))
    np.testing.assert_array_equal(first, last(project(embeddings, iterations=100, seed=1)))
    assert not np.array_equal(first, last(project(embeddings, iterations=100, seed=2)))


def test_slices_give_the_map_of_one_go():
    """Showing a map while it forms must not change it."""
    import openTSNE

    embeddings, _ = groups(60, 8)
    points = last(project(embeddings, iterations=30, perplexity=5))
    initial = next(project(embeddings, iterations=30, perplexity=5)).points.astype(np.float64)
    affinities = openTSNE.affinity.PerplexityBasedNN(embeddings.astype(np.float64), perplexity=5, method="exact")
    reference = openTSNE.TSNEEmbedding(initial, affinities, negative_gradient_method="bh")
    reference.optimize(10, inplace=True, exaggeration=12, momentum=0.8)
    reference.optimize(20, inplace=True, momentum=0.8)
    np.testing.assert_allclose(points, reference, rtol=0.05, atol=0.02 * np.ptp(points))


@pytest.mark.parametrize("count", [5, 6, 9, 31, 90])
@pytest.mark.parametrize("dimensions", [1, 2, 512])
def test_few_images_and_few_dimensions_give_a_finite_map(count, dimensions):
    embeddings, _ = groups(count, dimensions, number=2)
    points = last(project(embeddings, iterations=40))
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == count


@pytest.mark.parametrize(
    "embeddings",
    [
        np.zeros((40, 16)),
        np.full((40, 16), 3e37),
        np.repeat(np.eye(4), 10, axis=0),
        np.concatenate([np.zeros((39, 16)), np.ones((1, 16))]),
        np.random.default_rng(0).normal(size=(40, 16)) * 1e-30,
        np.random.default_rng(0).normal(size=(40, 16)) * 1e37,
    ],
    ids=["zero", "constant", "four places", "one apart", "tiny", "huge"],
)
@pytest.mark.filterwarnings("error")
def test_degenerate_embeddings_give_a_finite_map_without_a_warning(embeddings):
    points = last(project(embeddings.astype(np.float32)))
    assert np.isfinite(points).all()


def test_the_scale_of_the_embeddings_does_not_change_the_map():
    embeddings, labels = groups(100)
    assert purity(last(project(embeddings * np.float32(1e-20))), labels) > 0.99


def test_a_large_map_takes_the_interpolated_way_and_separates_too():
    count = INTERPOLATED_FROM
    embeddings, labels = groups(count, 10)
    points = last(project(embeddings, iterations=150, perplexity=10))
    assert np.isfinite(points).all()
    assert purity(points, labels) > 0.95


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """openTSNE and numba set the number of threads of the whole process; with another one torch rounds otherwise."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_several_threads_are_allowed():
    assert np.isfinite(last(project(groups(120)[0], iterations=30, threads=2))).all()


@pytest.mark.parametrize(
    ("embeddings", "settings", "message"),
    [
        (np.zeros((4, 8)), {}, "at least 5 images, but there are 4"),
        (np.zeros(8), {}, r"must be \(N, D\)"),
        (np.zeros((8, 0)), {}, r"must be \(N, D\)"),
        (np.where(np.arange(48).reshape(8, 6) == 20, np.nan, 0), {}, "finite, but that of image 3 is not"),
        (np.zeros((8, 6)), {"perplexity": 0.5}, "perplexity must be at least 1, but is 0.5"),
        (np.zeros((8, 6)), {"perplexity": float("nan")}, "perplexity must be at least 1"),
        (np.zeros((8, 6)), {"iterations": 0}, "iterations must be at least 1"),
        (np.zeros((8, 6)), {"threads": 0}, "threads must be at least 1"),
    ],
)
def test_impossible_arguments_are_named_before_the_first_layout(embeddings, settings, message):
    with pytest.raises(ValueError, match=message):
        project(embeddings, **settings)


def test_trustworthiness_is_that_of_scikit_learn_and_falls_to_a_half_by_chance():
    embeddings, _ = groups(400, 10, number=1)
    points = embeddings[:, :2]
    assert trustworthiness(embeddings, points) == pytest.approx(
        manifold.trustworthiness(embeddings.astype(float), points.astype(float), n_neighbors=10), abs=1e-6
    )
    assert trustworthiness(points, points) == 1
    assert trustworthiness(embeddings, np.random.default_rng(5).normal(size=(400, 2))) == pytest.approx(0.5, abs=0.03)


def test_trustworthiness_of_many_images_is_that_of_a_repeatable_sample(monkeypatch):
    monkeypatch.setattr(features, "TRUSTED_SAMPLE", 2000)
    embeddings, _ = groups(3000, 10, number=1)
    points = embeddings[:, :2]
    estimate = trustworthiness(embeddings, points)
    assert estimate == trustworthiness(embeddings, points)
    assert estimate != trustworthiness(embeddings, points, seed=1)
    whole = manifold.trustworthiness(embeddings.astype(float), points.astype(float), n_neighbors=15)
    assert estimate == pytest.approx(whole, abs=0.01)


def test_trustworthiness_works_for_the_fewest_images_and_names_what_does_not_fit():
    embeddings, _ = groups(5)
    assert 0 <= trustworthiness(embeddings, last(project(embeddings, iterations=30))) <= 1
    with pytest.raises(ValueError, match="There are 5 embeddings, but 6 points"):
        trustworthiness(embeddings, np.zeros((6, 2), np.float32))
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        trustworthiness(embeddings, embeddings, 0)


def near(embeddings: np.ndarray, count: int):
    return joined(some for *_, some in neighbours_of(embeddings, count))


def mapped(embeddings: np.ndarray, begin: np.ndarray | None = None, **settings) -> np.ndarray:
    how = Mapping(len(embeddings), **settings)
    return last(laid_out(embeddings, how, near(embeddings, how.attended(len(embeddings))), begin=begin))


def test_neighbours_are_those_of_scikit_learn_nearest_first():
    embeddings = groups(1100, 20)[0] + 100  # Far from zero, where a sum of squares says little of a distance.
    found = near(embeddings, 7)
    wanted, which = NearestNeighbors(n_neighbors=7).fit(embeddings.astype(np.float64)).kneighbors()
    assert (found.indices == which).mean() > 0.999
    np.testing.assert_allclose(found.distances, wanted, rtol=1e-4)
    done = [done for done, total, _ in neighbours_of(embeddings, 7)]
    assert done == [500, 1000, 1100]


def test_an_image_is_not_its_own_neighbour_even_among_equal_ones():
    embeddings = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    found = near(embeddings, 4)
    for image in range(20):
        assert set(found.indices[image]) == set(range(5 * (image // 5), 5 * (image // 5) + 5)) - {image}
    points = embeddings[:, :2]
    around = on_map(points, 4)
    assert not (around == np.arange(20)[:, None]).any()
    assert all(len(set(row)) == 4 for row in around.tolist())


def test_neighbours_on_the_map_are_those_of_scikit_learn():
    points = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    wanted = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(return_distance=False)
    np.testing.assert_array_equal(on_map(points, 6), wanted)


def test_known_neighbours_give_the_map_of_those_that_are_looked_for():
    embeddings = groups(80)[0]
    wanted = last(project(embeddings, iterations=60, perplexity=10))
    np.testing.assert_array_equal(
        last(project(embeddings, iterations=60, perplexity=10, near=near(embeddings, 40))), wanted
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_method_separates_groups_in_two_and_three_dimensions(method, dimensions):
    embeddings, labels = groups(240, distance=14)
    points = mapped(embeddings, method=method, dimensions=dimensions, perplexity=15)
    assert points.shape == (240, dimensions)
    assert np.isfinite(points).all()
    assert purity(points, labels) > (0.75 if method == "PCA" else 0.98)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_that_begins_with_another_one_stays_near_it(method):
    embeddings, _ = groups(200)
    changed = embeddings + np.random.default_rng(1).normal(0, 0.1, embeddings.shape).astype(np.float32)
    before = mapped(embeddings, method=method)
    after = mapped(changed, before, method=method)
    assert disparity(after, before) < 0.1
    moved = np.linalg.norm(after - before, axis=1).mean()
    assert moved < 0.5 * np.linalg.norm(before - before.mean(0), axis=1).mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("embeddings", [np.zeros((12, 4)), np.repeat(np.eye(3), 4, axis=0), np.eye(5)])
def test_few_and_equal_embeddings_give_a_finite_map_by_every_method(method, embeddings):
    assert np.isfinite(mapped(embeddings.astype(np.float32), method=method)).all()


def test_the_graph_of_umap_is_that_of_the_reference_implementation():
    from umap.umap_ import fuzzy_simplicial_set

    embeddings = groups(150, 12)[0]
    found = near(embeddings, 14)
    own = np.arange(150)[:, None]
    wanted, _, _ = fuzzy_simplicial_set(
        embeddings,
        15,
        np.random.RandomState(0),
        "euclidean",
        knn_indices=np.concatenate([own, found.indices], axis=1),
        knn_dists=np.concatenate([np.zeros((150, 1)), found.distances], axis=1).astype(np.float32),
    )
    np.testing.assert_allclose(umap.graph(found.distances, found.indices).toarray(), wanted.toarray(), atol=2e-4)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.5])
def test_the_curve_of_umap_is_that_of_the_reference_implementation(least):
    from umap.umap_ import find_ab_params

    np.testing.assert_allclose(umap.curve(least), find_ab_params(1.0, least), rtol=1e-3)


def test_umap_keeps_neighbours_and_its_least_distance_spreads_them():
    embeddings, _ = groups(400, number=8, distance=6)
    tight, loose = (mapped(embeddings, method="UMAP", min_distance=least) for least in (0.0, 0.8))
    assert trustworthiness(embeddings, tight) > 0.9
    nearest = [NearestNeighbors(n_neighbors=3).fit(points).kneighbors()[0].mean() for points in (tight, loose)]
    assert nearest[1] > 1.5 * nearest[0]


def test_the_same_seed_gives_the_same_map_by_umap():
    embeddings, _ = groups(100)
    first = mapped(embeddings, method="UMAP", seed=1)
    np.testing.assert_array_equal(first, mapped(embeddings, method="UMAP", seed=1))
    assert not np.array_equal(first, mapped(embeddings, method="UMAP", seed=2))


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    embeddings = groups(200, 10)[0]
    reference = PCA(3).fit(embeddings.astype(np.float64))
    np.testing.assert_allclose(shares_of_variance(embeddings, 3), reference.explained_variance_ratio_, rtol=1e-4)
    points, wanted = mapped(embeddings, method="PCA", dimensions=3), reference.transform(embeddings)
    for axis in range(3):
        assert abs(np.corrcoef(points[:, axis], wanted[:, axis])[0, 1]) > 0.9999


def test_votes_are_those_of_scikit_learn_with_each_image_left_out():
    from sklearn.neighbors import KNeighborsClassifier

    embeddings, labels = groups(120, 6, distance=2)
    found = near(embeddings, 10)
    right = 0
    for image in range(120):
        others = np.delete(np.arange(120), image)
        vote = KNeighborsClassifier(10).fit(embeddings[others], labels[others])
        right += vote.predict(embeddings[image : image + 1])[0] == labels[image]
    assert vote_accuracy(labels, found.indices) == pytest.approx(right / 120)


def test_kept_neighbours_are_counted_whatever_their_order():
    true = np.array([[1, 2, 3], [0, 2, 3]])
    shown = np.array([[3, 1, 9], [7, 8, 9]])
    assert kept_neighbours(true, shown).tolist() == [2, 0]


def test_a_map_that_was_only_moved_turned_mirrored_and_scaled_is_laid_onto_the_other():
    chance = np.random.default_rng(0)
    points = chance.normal(size=(50, 3))
    turn = np.linalg.qr(chance.normal(size=(3, 3)))[0]
    turn[:, 0] *= -1
    np.testing.assert_allclose(aligned(3 * points @ turn + 5, points), points, atol=1e-5)


def test_the_alignment_is_that_of_scipy():
    from scipy.spatial import procrustes

    chance = np.random.default_rng(0)
    one, other = chance.normal(size=(60, 2)), chance.normal(size=(60, 2))
    other += one @ [[0, 2], [-2, 0]]
    _, laid, left = procrustes(one, other)
    assert disparity(other, one) == pytest.approx(left, rel=1e-5)
    middle = one - one.mean(axis=0)
    np.testing.assert_allclose((aligned(other, one) - one.mean(axis=0)) / np.linalg.norm(middle), laid, atol=1e-5)


def test_an_aligned_map_has_the_size_that_is_asked_for():
    chance = np.random.default_rng(0)
    one, other = chance.normal(size=(40, 2)), 7 * chance.normal(size=(40, 2))

    def spread(points: np.ndarray) -> float:
        return float(np.linalg.norm(points - points.mean(axis=0)))

    assert spread(aligned(one, other, "same")) == pytest.approx(spread(other), rel=1e-4)
    assert spread(aligned(one, other, "own")) == pytest.approx(spread(one), rel=1e-4)
    assert spread(aligned(one, other)) < spread(other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 4}, "images must be from 5 to 50,000, but is 4"),
        ({"method": "MDS"}, "method must be t-SNE, UMAP or PCA, but is 'MDS'"),
        ({"dimensions": 4}, "dimensions must be 2 or 3, but is 4"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Mapping(**{"images": 100, **settings})


def test_importing_the_module_imports_nothing_slow():
    program = "import sys, cifar_core.features; print({'torch', 'sklearn', 'openTSNE'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
