"""A data set: images as stored, labels, and the scale between stored values and [0, 1]."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ro_fast.data.stored_images import AnyImages, StoredImages, in_memory

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ImageData:
    """Training, validation and test images with their labels, all on one device."""

    name: str
    x_train: AnyImages  # [N, C, H, W] or [N, D], uint8 or float32, in 0..scale; too many for memory, they stay in their file
    y_train: Tensor  # [N] int64 in 0..num_classes-1
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int
    rows_train: Rows  # [N] the number that the user knows each image by
    rows_val: Rows
    rows_test: Rows
    numbering: str = ""  # what such a number is
    available: tuple[int, int] = (0, 0)  # images of the source for training and validation, and for testing
    scale: float = 1.0  # the stored value that corresponds to 1.0
    redrawn: Tensor | None = None  # bool [N_train]: redrawn labels, a few of them onto the class they had
    files_train: tuple[str, ...] | None = None  # if each image has its own file
    files_val: tuple[str, ...] | None = None
    files_test: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()  # unreadable files that were left out
    class_names: tuple[str, ...] = ()  # by label, if known
    x_extra: Tensor | None = None  # additional training images, which have their own labels or get pseudo-labels
    y_extra: Tensor | None = None
    rows_extra: Rows | None = None  # of x_extra, if they were set aside from the training images

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W) or (D,)."""
        return tuple(self.x_train.shape[1:])

    def class_name(self, label: int) -> str:
        """The meaning of a label, in words if known."""
        return self.class_names[label] if self.class_names else str(int(label))

    def name_of(self, part: str, i: int) -> str:
        """What the user knows an image of "train" or "test" by: its file, if it has one, else its number."""
        files, rows = (self.files_train, self.rows_train) if part == "train" else (self.files_test, self.rows_test)
        return files[i] if files else f"{part} {rows[i]}"

    def pooled(self) -> ImageData:
        """Returns the data with the validation images among the training images, in the order of their numbers."""
        order = np.argsort(np.concatenate([self.rows_train, self.rows_val]), kind="stable")
        files = None if self.files_train is None else (*self.files_train, *(self.files_val or ()))
        return replace(
            self,
            x_train=torch.cat([in_memory(self.x_train, 3), self.x_val])[order],
            y_train=torch.cat([self.y_train, self.y_val])[order],
            x_val=self.x_val[:0],
            y_val=self.y_val[:0],
            rows_train=np.concatenate([self.rows_train, self.rows_val])[order],
            rows_val=self.rows_val[:0],
            files_train=None if files is None else tuple(files[i] for i in order),
            files_val=None if files is None else (),
            redrawn=None,
        )

    def to(self, device: torch.device | str) -> ImageData:
        """Returns the same data for work on another device, where all lies but training images that are too many for it."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in self._arrays().items()}
        there = replace(self, **moved)
        if "_fingerprint" in self.__dict__:
            there.__dict__["_fingerprint"] = self._fingerprint
        return there

    def images(self, x: Tensor) -> Tensor:  # stored values -> float32 in [0, 1]
        """Returns stored images as float32 in [0, 1]."""
        return x.float() / self.scale

    def mean_std(self) -> tuple[list[float], list[float]]:
        """Returns mean and standard deviation of the training images in [0, 1], one value per channel.

        Vectors [N, D] have one of each. A constant channel gets a standard deviation of 1.0, since it is divided by.
        """
        # In chunks, since float64 copies of a whole data set would not fit on a GPU beside the model.
        parts = (x if x.ndim == 4 else x[:, None] for x in self.x_train.split(4096))
        moments = torch.stack([self._moments(x) for x in parts]).sum(0).cpu()
        mean, square = moments / (self.x_train.shape.numel() / moments.shape[1])
        std = (square - mean.square()).clamp_min(0).sqrt()
        return mean.tolist(), torch.where(std > 1e-6, std, 1.0).tolist()

    def _moments(self, x: Tensor) -> Tensor:  # [N, C, ...] -> [2, C] float64: sums of values in [0, 1] and of their squares
        if x.dtype == torch.uint8:  # counting bytes is twenty times faster
            counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(1)]).double()
            values = torch.arange(256, dtype=torch.float64, device=x.device) / self.scale
            return torch.stack([counts @ values, counts @ values.square()])
        values, over = x.double() / self.scale, [d for d in range(x.ndim) if d != 1]
        return torch.stack([values.sum(over), values.square().sum(over)])

    def fingerprint(self) -> str:
        """Returns a SHA-256 over images, labels and their meaning, the same on any device and wherever files lie."""
        return self._fingerprint

    @functools.cached_property  # of every image, which takes its time where they are many
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.name} {self.num_classes} {self.scale}".encode())
        for name, array in self._arrays().items():
            digest.update(f"{name} {array.dtype} {list(array.shape)}".encode())
            for part in array.split(4096):
                digest.update(part.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _arrays(self) -> dict[str, AnyImages]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor | StoredImages)}
