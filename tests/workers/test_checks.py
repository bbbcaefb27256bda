"""What is found wrong with a trial once its data is there, before it starts."""

import pytest
from small_trials import trial

from workers.checks import TrialCheckError, check_data, check_model
from workers.data import DataError, ImageData, load_images
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


def test_steps_of_one_image_where_batch_norm_sees_one_value_a_channel(images: ImageData) -> None:
    tiny = {"dataset": {"image_size": 4}, "model": {"name": "small_cnn", "width": 4}}
    shrunk = load_images(trial(**tiny).dataset)
    alone, of_two = (
        trial(**tiny, training={"batch_size": 1}),
        {"training": {"batch_size": 3}, "resources": {"workers": 2}},
    )
    with pytest.raises(
        TrialCheckError, match=r"^training\.batch_size = 1: .* one image, .* 2 x resources\.workers = 2$"
    ):
        check_model(alone, shrunk)
    with pytest.raises(TrialCheckError, match=r"^training\.batch_size = 3: .* allowed: at least .* = 4$"):
        check_model(trial(**tiny, **of_two), shrunk)
    check_model(trial(**tiny, training={"batch_size": 2}), shrunk)
    check_model(trial(model={"name": "small_cnn", "width": 4}, training={"batch_size": 1}), images)  # sees 2x2


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
