"""Probabilities of a fall: right as often as they say, on runs drawn from the model that they assume."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.studies import arms_of, run
from scipy.stats import kstest

from ro_fast.findings.fall import FURTHEST, probability_of_fall


def arms(gaps: dict[str, list[float]]) -> list:
    return arms_of({name: [run(seed, ro_gap=gap) for seed, gap in enumerate(own)] for name, own in gaps.items()})


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_what_another_seed_gives_is_anywhere_in_its_distribution(seeds: int) -> None:
    """The probability of exceeding what then comes is uniform, if the forecast is right."""
    rng = np.random.default_rng(seeds)
    said = []
    for _ in range(400):
        own, new = rng.normal(0.03, 0.02, seeds).tolist(), rng.normal(0.03, 0.02)
        fall = probability_of_fall(arms({"baseline": own}), new, {"baseline": 100}, 100)
        assert fall is not None and fall.there is None
        said.append(fall.here)
    assert kstest(said, "uniform").pvalue > 0.01


def test_what_more_images_give_is_anywhere_in_its_distribution() -> None:
    rng, said = np.random.default_rng(0), []
    sizes = {"size_25": 25, "size_50": 50, "baseline": 100}
    for _ in range(400):
        gaps = {name: rng.normal(0.05 - 0.01 * math.log(size), 0.01, 3).tolist() for name, size in sizes.items()}
        fall = probability_of_fall(arms(gaps), rng.normal(0.05 - 0.01 * math.log(400), 0.01), sizes, 400)
        assert fall is not None and fall.images == 400 and fall.there is not None
        said.append(fall.there)
    assert kstest(said, "uniform").pvalue > 0.01


def test_nothing_is_said_of_one_seed_of_few_sizes_or_far_away() -> None:
    sizes = {"size_25": 25, "size_50": 50, "baseline": 100}
    gaps = {name: [0.03, 0.05] for name in sizes}
    assert probability_of_fall(arms({"baseline": [0.03]}), 0.02, {"baseline": 100}, 200) is None
    there = {images: probability_of_fall(arms(gaps), 0.02, sizes, images).there for images in (100, 101, 400, FURTHEST * 100 + 1)}
    assert [images for images, probability in there.items() if probability is not None] == [101, 400]
    assert probability_of_fall(arms(gaps), 0.02, {"size_50": 50, "baseline": 100}, 200).there is None
