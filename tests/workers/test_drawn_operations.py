"""The policies' operations in batches: one by one as torchvision's, and drawn as torchvision draws them."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from augmented import drawn, draws_for, images, operation, varied
from torchvision.transforms import InterpolationMode, v2

from workers.augmentation.draws import Draws
from workers.augmentation.grouping import CODES, IDENTITY, OPERATIONS, apply
from workers.augmentation.mixing import ChainMix, Chains, beta, mix_chains
from workers.augmentation.policies import POLICIES, AutoAugmentation, RandAugmentation, magnitude_table
from workers.augmentation.warping import WARPS, inverse_map

WITHOUT = ("AutoContrast", "Equalize", "Invert", "Identity")  # magnitude
SIZES = pytest.mark.parametrize(("height", "width", "count"), [(32, 32, 40), (13, 20, 40), (224, 224, 2), (2, 2, 10)])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more only get in each other's way on images this small


def torchvisions(image: torch.Tensor, name: str, magnitude: float, interpolation: str = "nearest") -> torch.Tensor:
    """One image (C, H, W), as torchvision's policies change it."""
    policy = v2.AutoAugment(interpolation=InterpolationMode(interpolation))
    changed: torch.Tensor = policy._apply_image_or_video_transform(
        image, name, magnitude, interpolation=policy.interpolation, fill=policy._fill
    )
    return changed


def some_magnitudes(name: str, count: int, height: int, width: int) -> np.ndarray:
    """Any of torchvision's ten, with either sign where it gives one."""
    table, signed = magnitude_table(v2.AutoAugment, 10, height, width)
    stream = np.random.default_rng(3)
    found = table[CODES[name]][stream.integers(10, size=count)]
    return found * stream.choice([-1, 1], count) if signed[CODES[name]] else found


@SIZES
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str, channels: int, height: int, width: int, count: int) -> None:
    batch = varied(count, channels, height, width)
    magnitudes = some_magnitudes(name, count, height, width)
    ours = apply(batch, np.full(count, CODES[name]), magnitudes)
    theirs = torch.stack([torchvisions(x, name, float(m)) for x, m in zip(batch, magnitudes, strict=True)])
    if name in WARPS:  # a pixel that comes from between two can be taken from either
        assert (ours != theirs).any(1).float().mean() <= 0.002
    else:
        assert torch.equal(ours, theirs)
    assert torch.equal(batch, varied(count, channels, height, width)), "the input stays as it is"


@SIZES
@pytest.mark.parametrize("name", WARPS)
def test_bilinear_maps_are_torchvisions(name: str, height: int, width: int, count: int) -> None:
    batch, magnitudes = varied(count, 3, height, width), some_magnitudes(name, count, height, width)
    ours = apply(batch, np.full(count, CODES[name]), magnitudes, "bilinear")
    theirs = torch.stack([torchvisions(x, name, float(m), "bilinear") for x, m in zip(batch, magnitudes, strict=True)])
    apart = (ours.int() - theirs.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() <= 0.002


def test_each_image_gets_its_own_operation() -> None:
    """A batch in which all operations are mixed, against the same images one by one."""
    count = 4 * len(OPERATIONS)
    batch, codes = varied(count), np.random.default_rng(0).permutation(count) % len(OPERATIONS)
    magnitudes = np.array([some_magnitudes(OPERATIONS[code], count, 32, 32)[row] for row, code in enumerate(codes)])
    alone = torch.cat([apply(batch[row : row + 1], codes[[row]], magnitudes[[row]]) for row in range(count)])
    assert torch.equal(apply(batch, codes, magnitudes), alone)


def test_nothing_drawn_nothing_done() -> None:
    batch = images(3)
    assert apply(batch, np.full(3, IDENTITY), np.zeros(3)) is batch
    assert not torch.equal(apply(batch, np.array([IDENTITY, CODES["Invert"], IDENTITY]), np.zeros(3)), batch)


def test_what_is_no_affine_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Invert is no affine map; allowed: ShearX, .*, Rotate"):
        inverse_map("Invert", np.zeros(2), 8, 8)


def frequencies(codes: np.ndarray, magnitudes: np.ndarray) -> dict[tuple[str, float], float]:
    """How often each operation was drawn with each magnitude (0 where it has none)."""
    rounded = np.where(np.isin(codes, [CODES[name] for name in WITHOUT]), 0.0, np.round(magnitudes, 6))
    counts = Counter(zip((OPERATIONS[code] for code in codes), rounded.tolist(), strict=True))
    return {outcome: count / len(codes) for outcome, count in counts.items()}


def agree(found: dict[Any, float], expected: dict[Any, float], draws: int) -> None:
    """Frequencies of draws against probabilities, each within 4.5 standard deviations."""
    for outcome in {*found, *expected}:
        chance = expected.get(outcome, 0.0)
        assert abs(found.get(outcome, 0.0) - chance) <= 4.5 * np.sqrt(chance / draws), outcome


class TestAutoAugment:
    @pytest.mark.parametrize("policy", POLICIES)
    def test_draws_sub_policies_as_published(self, policy: str) -> None:
        draws = 40_000
        codes, magnitudes = AutoAugmentation(operation("autoaugment", policy=policy)).drawn(draws_for(draws), 32, 32)
        table, signed = magnitude_table(v2.AutoAugment, 10, 32, 32)
        for turn in range(2):
            expected: Counter[tuple[str, float]] = Counter()
            for sub_policy in v2.AutoAugment(POLICIES[policy])._policies:
                name, chance, step = sub_policy[turn]
                magnitude = 0.0 if step is None else round(table[CODES[name], step], 6)
                for sign in (1, -1) if signed[CODES[name]] else (1, 1):
                    expected[name, sign * magnitude] += chance / 25 / 2
                expected["Identity", 0.0] += (1 - chance) / 25
            agree(frequencies(codes[:, turn], magnitudes[:, turn]), expected, draws)

    def test_the_two_turns_are_of_one_sub_policy(self) -> None:
        """In SVHN's policy, Posterize never comes, and Rotate comes second, after a few others only."""
        codes, _ = AutoAugmentation(operation("autoaugment", policy="svhn")).drawn(draws_for(5000), 32, 32)
        pairs = {(OPERATIONS[one], OPERATIONS[other]) for one, other in codes}
        assert {one for one, other in pairs if other == "Rotate"} == {"Identity", "Equalize", "Contrast", "Invert"}


class TestRandAugment:
    @pytest.mark.parametrize(("turns", "magnitude"), [(1, 30), (3, 9)])
    def test_draws_each_operation_as_often(self, turns: int, magnitude: int) -> None:
        draws = 20_000
        chosen = operation("randaugment", num_ops=turns, magnitude=magnitude)
        codes, magnitudes = RandAugmentation(chosen).drawn(draws_for(draws), 20, 32)
        space = v2.RandAugment._AUGMENTATION_SPACE
        expected: Counter[tuple[str, float]] = Counter()
        for name, (values, signed) in space.items():
            table = values(31, 20, 32)
            size = 0.0 if table is None else round(float(table[magnitude]), 6)
            for sign in (1, -1) if signed else (1, 1):
                expected[name, sign * size] += 1 / len(space) / 2
        assert codes.shape == magnitudes.shape == (draws, turns)
        for turn in range(turns):
            agree(frequencies(codes[:, turn], magnitudes[:, turn]), expected, draws)
        if turns > 1:
            both = np.corrcoef(codes[:, 0], codes[:, 1])[0, 1]
            assert abs(both) < 4.5 / np.sqrt(draws), "the turns are drawn by themselves"


class TestAugMix:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("side", [32, 224])
    def test_given_chains_are_mixed_as_torchvision_does(self, channels: int, side: int) -> None:
        count, width = (12, 3) if side == 32 else (2, 2)
        batch = varied(count, channels, side)
        chains = ChainMix(operation("augmix", width=width, severity=10, all_ops=True)).chains(
            draws_for(count), side, side
        )
        ours = mix_chains(batch, chains)
        for row, image in enumerate(batch):
            mixed = torch.tensor(chains.own[row], dtype=torch.float32) * image
            for chain in range(width):
                changed = image
                for code, magnitude in zip(chains.codes[row, chain], chains.magnitudes[row, chain], strict=True):
                    changed = torchvisions(changed, OPERATIONS[code], float(magnitude), "bilinear")
                mixed += torch.tensor(chains.shares[row, chain], dtype=torch.float32) * changed
            apart = (ours[row].int() - mixed.to(torch.uint8).int()).abs()
            assert apart.max() <= 1
            assert (apart > 0).float().mean() <= 0.01, "rounded the other way"

    @pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
    def test_shares_are_dirichlets(self, alpha: float) -> None:
        """Mean 1/k and variance (k-1) / k^2 (k alpha + 1) of the chains, 1/2 and 1 / 4 (2 alpha + 1) of the image."""
        draws, k = 20_000, 4
        chains = ChainMix(operation("augmix", width=k, alpha=alpha)).chains(draws_for(draws), 32, 32)
        total = chains.own + chains.shares.sum(1)
        np.testing.assert_allclose(total, 1.0, rtol=1e-12)
        shares = chains.shares / (1.0 - chains.own)[:, None]
        for values, size in ((chains.own, 2), *((shares[:, chain], k) for chain in range(k))):
            variance = (size - 1) / size**2 / (size * alpha + 1)
            assert abs(values.mean() - 1 / size) < 4.5 * np.sqrt(variance / draws)
            assert values.var() == pytest.approx(variance, rel=0.1)
        assert abs(np.corrcoef(chains.own, shares[:, 0])[0, 1]) < 4.5 / np.sqrt(draws)

    @pytest.mark.parametrize("all_ops", [False, True])
    def test_chains_are_torchvisions(self, all_ops: bool) -> None:
        draws, severity = 20_000, 3
        chosen = ChainMix(operation("augmix", all_ops=all_ops, severity=severity))
        chains = chosen.chains(draws_for(draws), 20, 32)
        assert chains.codes.shape == (draws, 3, 3)
        depths = (chains.codes != IDENTITY).sum(2)
        for chain in range(3):
            agree({d: float((depths[:, chain] == d).mean()) for d in (1, 2, 3)}, dict.fromkeys((1, 2, 3), 1 / 3), draws)
            assert (np.diff(chains.codes[:, chain] == IDENTITY, axis=1) >= 0).all(), "nothing after a chain's end"
        space = v2.AugMix._AUGMENTATION_SPACE if all_ops else v2.AugMix._PARTIAL_AUGMENTATION_SPACE
        assert len(space) == (13 if all_ops else 9)
        expected: Counter[tuple[str, float]] = Counter()
        for name, (values, signed) in space.items():
            table = values(10, 20, 32)
            for step in range(severity):
                size = 0.0 if table is None else round(float(table[step]), 6)
                for sign in (1, -1) if signed else (1, 1):
                    expected[name, sign * size] += 1 / len(space) / severity / 2
        agree(frequencies(chains.codes[:, 1, 0], chains.magnitudes[:, 1, 0]), expected, draws)

    def test_depth_can_be_set(self) -> None:
        chains = ChainMix(operation("augmix", depth=5, width=2)).chains(draws_for(10), 32, 32)
        assert chains.codes.shape == (10, 2, 5)
        assert (chains.codes != IDENTITY).all()

    def test_all_of_the_image_leaves_it(self) -> None:
        batch, codes = images(3), np.full((3, 1, 1), CODES["Invert"])
        assert torch.equal(mix_chains(batch, Chains(np.ones(3), np.zeros((3, 1)), codes, np.zeros((3, 1, 1)))), batch)
        inverted = mix_chains(batch, Chains(np.zeros(3), np.ones((3, 1)), codes, np.zeros((3, 1, 1))))
        assert torch.equal(inverted, 255 - batch)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_beta(alpha: float) -> None:
    draws: Draws = draws_for(20_000)
    values = beta(alpha, draws.uniform(0), draws.uniform(1))
    assert values.min() >= 0
    assert values.max() <= 1
    variance = 1 / 4 / (2 * alpha + 1)
    assert abs(values.mean() - 0.5) < 4.5 * np.sqrt(variance / 20_000)
    assert values.var() == pytest.approx(variance, rel=0.1)
    edge = beta(alpha, np.array([0.0, 0.0]), np.array([0.0, 1 - 2.0**-53]))
    assert np.isfinite(edge).all()


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        *(("autoaugment", {"policy": policy}, v2.AutoAugment(POLICIES[policy])) for policy in POLICIES),
        ("randaugment", {"num_ops": 1, "magnitude": 30}, v2.RandAugment(1, 30)),
        ("augmix", {"all_ops": True}, v2.AugMix()),
        ("augmix", {"severity": 10, "width": 1, "depth": 1}, v2.AugMix(10, 1, 1, all_ops=False)),
        ("perturb", {"sigma": [0.5, 2.0]}, v2.Compose([v2.ColorJitter(0.2), v2.GaussianBlur(5, (0.5, 2.0))])),
        ("random_resized_crop", {"size": 16}, v2.RandomResizedCrop(16, antialias=True)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_distributed_as_torchvisions(
    name: str, options: dict[str, Any], theirs: v2.Transform, channels: int
) -> None:
    """What comes out agrees with torchvision's transform, image by image under its own generator, in mean and spread
    of its brightness, its contrast and its roughness."""
    image, draws = varied(2, channels, 16)[1:] // 2 + 60, 300
    ours = drawn(name, image, draws, **options).double()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        their = torch.stack([theirs(image[0]) for _ in range(draws)]).double()
    assert ours.shape == their.shape
    for quantity in (brightness, contrast, roughness):
        one, other = quantity(ours), quantity(their)
        error = ((one.var() + other.var()) / draws).sqrt()
        assert abs(one.mean() - other.mean()) < 4.5 * error, quantity.__name__
        assert 0.6 < one.std() / other.std() < 1.7, quantity.__name__


def brightness(batch: torch.Tensor) -> torch.Tensor:
    return batch.mean((1, 2, 3))


def contrast(batch: torch.Tensor) -> torch.Tensor:
    return batch.std((1, 2, 3))


def roughness(batch: torch.Tensor) -> torch.Tensor:
    return batch.diff(dim=3).abs().mean((1, 2, 3))
