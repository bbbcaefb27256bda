"""What is found wrong with a trial once its data is there, before it starts."""

import pytest
from small_trials import trial

from workers.checks import TrialCheckError, check_data
from workers.data import DataError, ImageData
from workers.memory import memory_here
from workers.views import BYTES


def refused(images: ImageData, match: str, **sections: object) -> None:
    with pytest.raises((TrialCheckError, DataError), match=match):
        check_data(trial(**sections), images)


def test_a_class_smaller_than_its_budget(images: ImageData) -> None:
    refused(
        images,
        r"selection\.budget = 60: .*class 6 has 4 examples, fewer than its part of 6",
        dataset={"train_per_class": 20, "label_noise": 0.0, "imbalance_factor": 10.0},
        selection={"fraction": None, "budget": 60, "per_class": "equal"},
    )


def test_a_class_smaller_than_what_is_kept_of_it(images: ImageData) -> None:
    refused(
        images,
        r"dataset\.train_per_class = 500: class '8' has only 139 .* at most 139",
        dataset={"train_per_class": 500},
    )


def test_imagenets_normalisation_of_grey_images(images: ImageData) -> None:
    refused(
        images,
        r"dataset\.normalization = imagenet: .* 3 channels; these have 1: .*normalization: data",
        dataset={"normalization": "imagenet"},
    )
    refused(
        images, r"dataset\.normalization = imagenet", model={"name": "resnet18", "pretrained": "a.pth", "width": None}
    )


class TestMemory:
    def test_more_copies_than_it_holds(self, images: ImageData) -> None:
        most = (memory_here() // BYTES - 200) // 20
        check_data(trial(augmentation={"copies": most}), images)
        refused(
            images,
            rf"augmentation\.copies = {most + 1}: {most + 1:,} copies of 20 examples are .* views an epoch, whose ids "
            rf"and weights take .* GiB of memory; there are .* GiB; allowed: at most {most:,}",
            augmentation={"copies": most + 1},
        )

    @pytest.mark.parametrize(
        ("selection", "copied"), [({"strategy": "full"}, 200), ({"fraction": None, "tolerance": 1.0}, 200)]
    )
    def test_of_everything(self, selection: dict[str, object], copied: int, images: ImageData) -> None:
        refused(images, f"copies of {copied} examples", selection=selection, augmentation={"copies": 10**12})

    def test_where_nothing_is_copied(self, images: ImageData) -> None:
        check_data(trial(selection={"strategy": "none"}, augmentation={"copies": 10**12}), images)
