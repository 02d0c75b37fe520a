"""Feature generalisation during training: fixed subsets of training and test images, examined every few epochs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ro_fast.check.sample_weights import weights_of
from ro_fast.config import FeaturesConfig
from ro_fast.data import ImageData, matched_subsets
from ro_fast.errors import InputError
from ro_fast.features.generalisation import measure
from ro_fast.features.reader import PENULTIMATE, FeatureReader
from ro_fast.training.score import Features


@dataclass(frozen=True)
class Generalisation:
    """The penultimate layer's feature gap on adversarial and natural images, and each layer's statistics by kind of image.

    The statistics are those of :mod:`ro_fast.features.generalisation`.
    """

    gap: float | None
    gap_natural: float | None
    layers: dict[str, dict[str, dict[str, float | None]]]


class FeatureObserver:
    """The features of a model on a subset of the training images and one of the test images, with equally many of each class.

    The subsets are the same at every epoch and in every arm. Test features are read in the pass that scores the test images
    anyway; only the training subset needs an extra attack.

    Raises:
        InputError: if a config doesn't fit the model or the data.
    """

    def __init__(self, model: nn.Module, data: ImageData, config: FeaturesConfig) -> None:
        if config.every < 1:
            raise InputError(f"features.every = {config.every} should be at least 0")
        size = min(1000, len(data.y_train) // 10) if config.size is None else config.size
        if size < 2 * data.num_classes:
            raise InputError(f"features.size = {size} should be at least {2 * data.num_classes}, two images per class")
        layers = config.layers if config.layers is None else list(dict.fromkeys([*config.layers, PENULTIMATE]))
        self.every = config.every
        self.reader = FeatureReader(model, layers)
        # Redrawn labels would pull the gap below zero until they are memorised: where they are known, they are left out.
        clean = np.arange(len(data.y_train)) if data.redrawn is None else np.flatnonzero(~data.redrawn.cpu().numpy())
        labels = data.y_train.cpu().numpy()[clean]
        train, test = matched_subsets(labels, data.y_test.cpu().numpy(), size, np.random.default_rng(0))
        train = clean[train]
        self.train, self.test = (torch.from_numpy(index).to(data.y_train.device) for index in (train, test))
        weight = None if config.label_weights is None else weights_of(config.label_weights, data)
        self._weight = None if weight is None else weight[self.train]
        self._y_train, self._y_test, self._classes = data.y_train[self.train], data.y_test[self.test], data.num_classes

    def due(self, epoch: int, last: int) -> bool:
        """Whether this epoch is due: every few epochs, and the last."""
        return epoch % self.every == 0 or epoch == last

    def look_at(self, model: nn.Module) -> FeatureReader:
        """A reader of this model's features: the model scored need not be the one trained."""
        if model is not self.reader.model:
            self.reader = FeatureReader(model, self.reader.layers)
        return self.reader

    def measured(self, train: Features, test: Features) -> Generalisation:
        """From features of the training subset and of all test images, kind -> layer -> [N, D]."""
        layers = {
            layer: measure(
                _of(train, layer), self._y_train, _of(test, layer, self.test), self._y_test, self._classes, self._weight
            )
            for layer in self.reader.layers
        }
        own = layers[PENULTIMATE]
        return Generalisation(own["adversarial"]["feature_gap"], own["natural"]["feature_gap"], layers)


def _of(features: Features, layer: str, index: Tensor | None = None) -> dict[str, Tensor]:
    return {kind: layers[layer] if index is None else layers[layer][index] for kind, layers in features.items()}
