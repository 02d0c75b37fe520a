"""Networks: published sizes, shapes, built-in normalisation, and errors on wrong configs."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from ro_fast.config import ModelConfig
from ro_fast.errors import InputError
from ro_fast.models import build_model

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def build(name, shape=(3, 32, 32), classes=10, mean=None, std=None, **options):
    channels = shape[0] if len(shape) == 3 else 1
    config = ModelConfig(name=name, **options)
    return build_model(config, shape, classes, mean or MEAN[:channels], std or STD[:channels])


@pytest.mark.parametrize(("name", "published"), [("preact_resnet18", 11_172_170), ("wide_resnet34_10", 46_160_474)])
def test_published_size(name, published):
    assert sum(p.numel() for p in build(name).parameters()) == published


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [
        ("mlp", (12,), 256),
        ("mlp", (1, 8, 8), 256),
        ("small_cnn", (1, 8, 8), 64),
        ("small_cnn", (3, 28, 28), 64),
        ("small_cnn", (1, 1, 3), 64),
        ("preact_resnet18", (1, 28, 28), 512),
        ("preact_resnet18", (3, 32, 32), 512),
    ],
)
def test_logits_are_the_classifier_of_the_features(name, shape, features):
    model = build(name, shape, classes=7).eval()
    x = torch.rand(2, *shape)
    z = model.features(x)
    assert z.shape == (2, features)
    assert model(x).shape == (2, 7)
    torch.testing.assert_close(model(x), model.classifier(z), rtol=0, atol=0)


def test_wide_resnet_shape_and_initialisation():
    model = build("wide_resnet34_10", (3, 8, 8))
    assert model.eval()(torch.rand(1, 3, 8, 8)).shape == (1, 10)
    conv = max((m for m in model.modules() if isinstance(m, nn.Conv2d)), key=lambda m: m.weight.numel())
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 640)) ** 0.5, rel=0.01)


def test_resolution_falls_by_eight_over_the_stages():
    trunk = build("preact_resnet18").eval().trunk
    x, sizes = torch.rand(1, 3, 32, 32), []
    for layer in list(trunk)[:5]:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_normalisation_is_inside(name):
    plain = build(name, (3, 8, 8), mean=[0.0], std=[1.0]).eval()
    model = build(name, (3, 8, 8)).eval()
    weights = {key: value for key, value in plain.state_dict().items() if not key.startswith("normalize.")}
    model.load_state_dict(weights, strict=False)
    x = torch.rand(4, 3, 8, 8)
    normalised = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(x), plain(normalised))
    assert not torch.allclose(model(x), plain(x))


def test_configured_mean_and_std_go_before_those_of_the_data():
    model = build("small_cnn", (3, 8, 8), mean=[0.9], std=[0.9])
    ours = build_model(ModelConfig(mean=MEAN, std=STD), (3, 8, 8), 10, [0.9], [0.9])
    assert model.normalize.mean.flatten().tolist() == pytest.approx([0.9])
    assert ours.normalize.mean.flatten().tolist() == pytest.approx(MEAN)
    assert ours.normalize.std.flatten().tolist() == pytest.approx(STD)


def test_normalisation_is_saved_with_the_weights():
    assert {"normalize.mean", "normalize.std"} <= build("mlp", (12,)).state_dict().keys()


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "preact_resnet18"])
def test_seed_determines_the_weights(name):
    def weights(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(name, (1, 8, 8)).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_small_cnn_memorises_random_labels():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x = torch.rand(64, 1, 8, 8, generator=generator)
    y = torch.randint(10, (64,), generator=generator)
    model = build("small_cnn", (1, 8, 8))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    assert (model.eval()(x).argmax(1) == y).float().mean() == 1


def test_width_scales_small_models():
    assert build("small_cnn", (1, 8, 8), width=8).features(torch.rand(2, 1, 8, 8)).shape == (2, 16)
    assert build("mlp", (12,), width=4).features(torch.rand(2, 12)).shape == (2, 32)


def test_channels_last_changes_nothing():
    model = build("small_cnn", (3, 8, 8)).double().eval()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    expected = model(x)
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize(
    ("config", "shape", "told"),
    [
        (ModelConfig(name="resnet"), (3, 8, 8), "small_cnn.*preact_resnet18"),
        (ModelConfig(source="hub"), (3, 8, 8), "ro_fast, timm"),
        (ModelConfig(width=0), (3, 8, 8), "width is 0"),
        (ModelConfig(name="small_cnn"), (64,), "use model=mlp"),
        (ModelConfig(mean=[0.1, 0.2]), (3, 8, 8), "mean has 2 values.*3"),
        (ModelConfig(std=[0.1, 0.0, 0.1]), (3, 8, 8), "above 0"),
    ],
)
def test_a_wrong_config_is_an_input_error(config, shape, told):
    with pytest.raises(InputError, match=told):
        build_model(config, shape, 10, [0.5], [0.2])


def test_other_channels_than_built_for_are_refused_and_not_broadcast():
    with pytest.raises(InputError, match=r"3 channels.*\[2, 1, 8, 8\]"):
        build("small_cnn", (3, 8, 8))(torch.rand(2, 1, 8, 8))


class TinyTimm(nn.Module):
    """The part of timm's model interface that we use."""

    def __init__(self, in_chans, num_classes):
        super().__init__()
        self.body = nn.Conv2d(in_chans, 5, 1)
        self.head = nn.Linear(5, num_classes)

    def forward_features(self, x):
        return self.body(x)

    def forward_head(self, x, pre_logits=False):
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def create_model(name, pretrained, in_chans, num_classes):
    if name != "tiny":
        raise RuntimeError(f"Unknown model ({name})")
    return TinyTimm(in_chans, num_classes)


def test_timm_model_is_normalised_and_has_features(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    model = build("tiny", (2, 8, 8), classes=4, source="timm")
    x = torch.rand(3, 2, 8, 8)
    assert model.features(x).shape == (3, 5)
    normalised = (x - torch.tensor(MEAN[:2])[:, None, None]) / torch.tensor(STD[:2])[:, None, None]
    torch.testing.assert_close(model(x), model.net(normalised))
    with pytest.raises(InputError, match=r"model\.name=nonesuch"):
        build("nonesuch", (2, 8, 8), source="timm")


def test_missing_timm_is_told_with_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs timm .*: pip install \w"):
        build("resnet18", source="timm")
