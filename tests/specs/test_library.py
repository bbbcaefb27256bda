"""The library: how many trials each spec is, what is known of the paper's set-ups, and what is marked as a choice."""

import re
from typing import Any

import pytest

import specs
from specs.loading import LIBRARY, read

# Trials: strategies x sizes x seeds; `none` and `full` count once for all sizes.
TRIALS = {
    "append_vs_in_place": 3 + 3 * 3,
    "cifar10_small": (4 * 2 + 1) * 3,
    "figure1_cifar10_resnet20": 1,
    "figure1_mnist_mlp": 1,
    "figure2_cifar10": (2 + 3 * 3) * 3,
    "figure2_svhn": (2 + 3 * 3) * 3,
    "figure3_cifar10": 1,
    "quickstart": (4 * 2 + 1) * 3,
    "table1_caltech256": 3 * 6 * 3,
    "table1_cifar10_resnet20": 3 * 4 * 3,
    "table1_cifar10_wrn2810": 3 * 1 * 3,
    "table1_small": (3 + 2) * 2 * 3,  # the coreset with weights and without
    "table2_caltech256_augmix": 2 * 3 * 3,
    "table2_caltech256_cutout": 2 * 3 * 3,
    "table2_caltech256_perturb": 2 * 3 * 3,
    "table3_tinyimagenet": 3 * 3 * 3,
    "table4_cifar10": (2 + 3 * 3) * 3,
    "table4_cifar10_ib": (2 + 3 * 3) * 3,
    "table4_svhn": (2 + 3 * 3) * 3,
    "table5_noisy_cifar10": (2 + 3 * 3) * 3,
    "table5_small": 5 * 3,
    "table6_imagenet": 3 * 3 * 3,
    "table6_tinyimagenet": 3 * 3 * 3,
    "weak_only": 3 * 4 * 3,
}
NAMES = sorted(path.stem for path in LIBRARY.glob("*.yaml"))

# (regime, model, epochs, R, learning rate, batch, milestones), from the paper and its published code
SET_UPS = {
    "table1_cifar10_resnet20": ("subset", "resnet20", 200, 1, 0.1, 128, [100, 150]),
    "table1_cifar10_wrn2810": ("subset", "wrn28_10", 200, 1, 0.1, 128, [100, 150]),
    "table1_caltech256": ("subset", "resnet18", 40, 5, 1e-3, 64, [20, 30]),
    "table2_caltech256_augmix": ("subset", "resnet18", 40, 5, 1e-3, 64, [20, 30]),
    "table2_caltech256_cutout": ("subset", "resnet18", 40, 5, 1e-3, 64, [20, 30]),
    "table2_caltech256_perturb": ("subset", "resnet18", 40, 5, 1e-3, 64, [20, 30]),
    "table3_tinyimagenet": ("full+augmented", "resnet50", 90, 15, 0.1, 256, [30, 60]),
    "table4_cifar10": ("full+augmented", "resnet20", 200, 20, 0.1, 128, [100, 150]),
    "table4_cifar10_ib": ("full+augmented", "resnet32", 200, 20, 0.1, 128, [100, 150]),
    "table4_svhn": ("full+augmented", "resnet32", 200, 20, 0.1, 128, [100, 150]),
    "table5_noisy_cifar10": ("full+augmented", "resnet20", 200, 20, 0.1, 128, [100, 150]),
    "table6_imagenet": ("random+augmented", "resnet50", 90, 15, 0.1, 64, [30, 60]),
    "table6_tinyimagenet": ("random+augmented", "resnet50", 90, 15, 0.1, 256, [30, 60]),
}

# (data set, label noise, imbalance, ImageNet's weights, side of the crop or None, strong operations) of the same
DATA = {
    "table1_cifar10_resnet20": ("cifar10", 0.0, 1, False, None, ["autoaugment cifar10"]),
    "table1_cifar10_wrn2810": ("cifar10", 0.0, 1, False, None, ["autoaugment cifar10"]),
    "table1_caltech256": ("caltech256", 0.0, 1, True, 224, ["autoaugment imagenet"]),
    "table2_caltech256_augmix": ("caltech256", 0.0, 1, True, 224, ["augmix"]),
    "table2_caltech256_cutout": ("caltech256", 0.0, 1, True, 224, ["cutout 32"]),
    "table2_caltech256_perturb": ("caltech256", 0.0, 1, True, 224, ["perturb"]),
    "table3_tinyimagenet": ("tiny_imagenet", 0.0, 1, False, 56, ["autoaugment imagenet"]),
    "table4_cifar10": ("cifar10", 0.0, 1, False, None, ["loss_guided"]),
    "table4_cifar10_ib": ("cifar10", 0.0, 10, False, None, ["loss_guided"]),
    "table4_svhn": ("svhn", 0.0, 1, False, None, ["loss_guided"]),
    "table5_noisy_cifar10": ("cifar10", 0.5, 1, False, None, ["autoaugment cifar10"]),
    "table6_imagenet": ("imagenet", 0.0, 1, False, 224, ["autoaugment imagenet"]),
    "table6_tinyimagenet": ("tiny_imagenet", 0.0, 1, False, 56, ["autoaugment imagenet"]),
    "figure2_cifar10": ("cifar10", 0.0, 1, False, None, ["loss_guided"]),
    "figure2_svhn": ("svhn", 0.0, 1, False, None, ["loss_guided"]),
    "figure3_cifar10": ("cifar10", 0.0, 1, False, None, ["random_rotation", "autoaugment cifar10"]),
    "figure1_mnist_mlp": ("mnist", 0.0, 1, False, None, []),
    "figure1_cifar10_resnet20": ("cifar10", 0.0, 1, False, None, []),
    "weak_only": ("cifar10", 0.0, 1, False, None, []),
    "append_vs_in_place": ("cifar10", 0.0, 1, False, None, ["autoaugment cifar10"]),
}


def test_every_spec_is_counted() -> None:
    assert sorted(TRIALS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_number_of_trials(name: str) -> None:
    assert len(specs.expand(specs.load(name))) == TRIALS[name]


@pytest.mark.parametrize(("name", "known"), SET_UPS.items())
def test_set_ups_known_from_the_paper_and_its_code(name: str, known: tuple[Any, ...]) -> None:
    for trial in specs.expand(specs.load(name)):
        training, chosen = trial.spec.training, trial.spec.selection
        assert training.schedule.name == "milestones"
        assert (
            training.regime,
            trial.spec.model.name,
            training.epochs,
            chosen.every,
            training.optimizer.learning_rate,
            training.batch_size,
            list(training.schedule.milestones),
        ) == known
        assert (training.optimizer.momentum, training.optimizer.weight_decay) == (0.9, 1e-4)
        assert training.schedule.gamma == 0.1
        assert trial.spec.augmentation.placement == "append"


@pytest.mark.parametrize(("name", "known"), DATA.items())
def test_data_and_augmentation(name: str, known: tuple[Any, ...]) -> None:
    sweep = specs.load(name)
    data, weak, strong = sweep.dataset, sweep.augmentation.weak, sweep.augmentation.strong
    sizes = [size for operation in weak if (size := getattr(operation, "size", None)) is not None]
    details = ([one.name, getattr(one, "policy", None), getattr(one, "size", None)] for one in strong)
    operations = [" ".join(str(part) for part in one if part is not None) for one in details]
    pretrained = sweep.model.pretrained is not None
    assert (data.name, data.label_noise, data.imbalance_factor, pretrained, sizes or [None], operations) == (
        *known[:4],
        [known[4]],
        known[5],
    )


@pytest.mark.parametrize("name", ["table4_cifar10", "table4_svhn", "figure2_cifar10", "figure2_svhn"])
def test_loss_guided_copies_of_8_candidates_4_are_appended(name: str) -> None:
    augmentation = specs.load(name).augmentation
    guided = augmentation.loss_guided()
    assert guided is not None
    assert (guided.candidates, guided.kept, guided.operations, augmentation.copies) == (8, 4, 2, 4)


@pytest.mark.parametrize("name", [name for name in NAMES if specs.load(name).reproduces == name])
def test_what_the_paper_does_not_say_is_marked(name: str) -> None:
    """Every value stands on a line, or below one, that says where it is from, in this file or in the one it extends."""
    text = (LIBRARY / f"{name}.yaml").read_text()
    assert re.search(r"paper|Appendix|Figure|Table", text.split("\nname:")[0])
    if "\nextends:" not in text:
        assert "OUR CHOICE" in text.split("\nname:")[1]
        for section in ("dataset", "model", "training", "selection", "seeds"):
            block = re.search(rf"^{section}:.*?(?=^\w|\Z)", text, re.M | re.S)
            assert block
            assert re.search(r"# .*(paper|code|CHOICE|known|nothing)", block[0]) or "strategy: none" in block[0], (
                section
            )


def test_weak_only_trains_on_each_selected_image_once() -> None:
    for trial in specs.expand(specs.load("weak_only")):
        augmentation = trial.spec.augmentation
        assert trial.spec.training.regime == "subset"
        assert (augmentation.strong, augmentation.copies, augmentation.placement) == ((), 1, "in_place")


def test_appended_and_in_place_at_the_same_cost() -> None:
    trials = specs.expand(specs.load("append_vs_in_place"))
    found = {
        (trial.spec.augmentation.placement, trial.spec.augmentation.copies)
        for trial in trials
        if trial.spec.selection.strategy == "full"
    }
    assert found == {("append", 1), ("in_place", 1), ("in_place", 2)}
    assert sum(trial.spec.selection.strategy == "none" for trial in trials) == 3  # one for all of them, by seed


def test_what_a_sweep_reproduces_changes_no_trial() -> None:
    plain, other = (specs.load("table4_svhn", [f"reproduces={name}"]) for name in ("null", "figure2_svhn"))
    assert [trial.hash for trial in specs.expand(plain)] == [trial.hash for trial in specs.expand(other)]


def test_an_exhibit_that_is_not_in_the_paper_is_refused() -> None:
    with pytest.raises(
        specs.SpecError, match=r"reproduces = 'table4_cifar': not allowed \(did you mean 'table4_cifar10"
    ):
        specs.load("table4_cifar10", ["reproduces=table4_cifar"])


def test_figures_of_the_spectrum_keep_the_checkpoint_of_epoch_15() -> None:
    for name in ("figure1_mnist_mlp", "figure1_cifar10_resnet20", "figure3_cifar10"):
        data = read(name).data
        assert data["checkpoints"]["keep"] == [15], name
        assert specs.load(name).training.epochs == 15
