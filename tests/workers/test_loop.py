"""The loop: exact arithmetic, exact repetition, exact continuation."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_trials import (
    context,
    gone_on_after_any_kill,
    left_behind,
    mlp_losses,
    plain_inputs,
    result_of,
    run,
    selection_of,
    trial,
    weights_after,
)

from specs import TrialSpec, trial_id
from workers import commits
from workers.augmentation import Augmenter, LossGuidedCopies, Pool
from workers.data import ImageData, corrupt
from workers.loop import DivergedError, train
from workers.models import build_model
from workers.records import TrialTimes, checkpoint_key, load_record, trial_key
from workers.storage import LocalStorage, StorageError
from workers.views import Views, shuffle

STRATEGIES = ("none", "random", "max_loss", "coreset", "full")


def numpy_state(module: torch.nn.Module) -> list[np.ndarray]:
    return [parameter.detach().double().numpy().copy() for parameter in module.parameters()]


def mlp_gradient(
    parameters: list[np.ndarray], inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> list[np.ndarray]:
    """The gradient of sum(w*l)/|batch|, by hand."""
    w1, b1, w2, b2 = parameters
    hidden = np.maximum(inputs @ w1.T + b1, 0)
    logits = hidden @ w2.T + b2
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    residuals = softmax - np.eye(w2.shape[0])[labels]
    outer = residuals * weights[:, None] / len(labels)
    inner = (outer @ w2) * (hidden > 0)
    return [inner.T @ inputs, inner.sum(axis=0), outer.T @ hidden, outer.sum(axis=0)]


class TestArithmetic:
    PLAIN = {"weak": [], "strong": [], "copies": 2}  # noqa: RUF012 - so that inputs can be computed by hand

    def test_steps_of_weighted_sgd(self, tmp_path: Path, images: ImageData) -> None:
        """An epoch with an uneven last batch, against momentum SGD on sum(w*l)/|batch| in float64."""
        spec = trial(
            augmentation=self.PLAIN,
            training={
                "regime": "full+augmented",
                "epochs": 1,
                "batch_size": 64,
                "schedule": {"name": "constant"},
                "optimizer": {"learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.01},
            },
            checkpoints={"keep": [1]},
        )
        storage = LocalStorage(tmp_path)
        (epoch,) = run(spec, storage, images)
        examples = corrupt(spec.dataset, images, spec.seed)
        chosen = selection_of(spec, 0, storage, images)
        assert chosen["weights"].sum() == 200
        assert len(set(chosen["weights"])) > 1, "equal weights would show nothing"
        k = len(chosen["ids"])
        rows = [(i, 0, 1.0) for i in examples.ids.tolist()]
        rows += [
            (i, copy, float(gamma) * k / 200 / 2)
            for i, gamma in zip(chosen["ids"].tolist(), chosen["weights"], strict=True)
            for copy in (1, 2)
        ]
        ids, copies, weights = (np.array(column) for column in zip(*rows, strict=True))
        views = shuffle(Views(ids, copies, weights), spec.seed, 0)
        assert len(views) == 240
        labels = dict(zip(examples.ids.tolist(), examples.labels.tolist(), strict=True))
        parameters = numpy_state(build_model(spec.model, 10, images.image_shape, spec.seed))
        velocity = [np.zeros_like(parameter) for parameter in parameters]
        total = 0.0
        for start in range(0, 240, 64):
            batch = slice(start, min(start + 64, 240))
            inputs = plain_inputs(images, views.ids[batch])
            target = np.array([labels[i] for i in views.ids[batch].tolist()])
            total += float((mlp_losses(parameters, inputs, target) * views.weights[batch]).sum())
            gradient = mlp_gradient(parameters, inputs, target, views.weights[batch])
            for number, parameter in enumerate(parameters):
                velocity[number] = 0.8 * velocity[number] + gradient[number] + 0.01 * parameter
                parameters[number] = parameter - 0.05 * velocity[number]
        trained = weights_after(spec, 1, storage, images)
        for expected, value in zip(parameters, trained.values(), strict=True):
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-4, atol=1e-6)
        assert epoch.record.train_loss == pytest.approx(total / 240, rel=1e-5)
        assert (epoch.record.views, epoch.record.augmented) == (240, 40)

    def test_trains_on_the_noisy_labels_and_tests_on_clean_ones(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(
            augmentation=self.PLAIN,
            training={
                "regime": "full+augmented",
                "epochs": 1,
                "batch_size": 200,
                "optimizer": {"learning_rate": 1e-9, "momentum": 0.0, "weight_decay": 0.0},
            },
            selection={"strategy": "none"},
        )
        (epoch,) = run(spec, LocalStorage(tmp_path), images)
        examples = corrupt(spec.dataset, images, spec.seed)
        parameters = numpy_state(build_model(spec.model, 10, images.image_shape, spec.seed))
        noisy, clean = (
            mlp_losses(parameters, plain_inputs(images, examples.ids), labels).mean()
            for labels in (examples.labels, examples.clean_labels)
        )
        assert abs(noisy - clean) > 1e-3, "the labels must make a difference"
        assert epoch.record.train_loss == pytest.approx(noisy, rel=1e-5)
        test = (images.test.images.astype(np.float64) / 255 - images.mean) / images.std
        losses = mlp_losses(parameters, test.reshape(len(test), -1), images.test.labels)
        assert epoch.record.test_loss == pytest.approx(losses.mean(), rel=1e-4)

    def test_weak_on_everything_and_strong_on_top_for_copies(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(
            training={"epochs": 1, "batch_size": 1000, "optimizer": {"learning_rate": 1e-9, "weight_decay": 0.0}},
            selection={"strategy": "full"},
        )
        (epoch,) = run(spec, LocalStorage(tmp_path), images)
        examples = corrupt(spec.dataset, images, spec.seed)
        weak = Augmenter(spec.augmentation.weak)
        strong = Augmenter(spec.augmentation.strong, start=1)
        raw = torch.from_numpy(images.train.images[examples.ids]).permute(0, 3, 1, 2)
        losses = []
        parameters = numpy_state(build_model(spec.model, 10, images.image_shape, spec.seed))
        for copy in (0, 1):
            copies = np.full(200, copy)
            pictures = weak(raw, examples.ids, copies, seed=spec.seed, epoch=0)
            if copy:
                pictures = strong(pictures, examples.ids, copies, seed=spec.seed, epoch=0)
            inputs = (pictures.double().numpy() / 255 - images.mean[0]) / images.std[0]
            losses.append(mlp_losses(parameters, inputs.reshape(200, -1), examples.labels))
        assert abs(losses[0].mean() - losses[1].mean()) > 1e-4
        assert epoch.record.train_loss == pytest.approx(np.mean(losses), rel=1e-5)

    @pytest.mark.parametrize("batch_size", [1000, 1])
    def test_loss_guided_copies_are_scored_by_the_network_and_train_on_soft_labels(
        self, batch_size: int, tmp_path: Path, images: ImageData
    ) -> None:
        """The loss of an epoch: originals by their labels, the hardest of each example's candidates by mixed ones."""
        augmentation = {"strong": [{"name": "loss_guided", "candidates": 5, "kept": 2, "cutout": 3}], "copies": 2}
        spec = trial(
            dataset={"train_per_class": 4},
            augmentation=augmentation,
            training={"epochs": 1, "batch_size": batch_size, "optimizer": {"learning_rate": 1e-12, "momentum": 0.0}},
            selection={"strategy": "full"},
        )
        (epoch,) = run(spec, LocalStorage(tmp_path), images)
        examples = corrupt(spec.dataset, images, spec.seed)
        assert (epoch.record.views, epoch.record.augmented) == (120, 80)
        parameters = numpy_state(build_model(spec.model, 10, images.image_shape, spec.seed))

        def losses(pictures: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            inputs = (pictures.double().numpy() / 255 - images.mean[0]) / images.std[0]
            classes = [
                mlp_losses(parameters, inputs.reshape(len(inputs), -1), np.full(len(inputs), c)) for c in range(10)
            ]
            return (torch.from_numpy(np.stack(classes, 1)) * targets).sum(1)

        def take(ids: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(images.train.images[ids]).permute(0, 3, 1, 2)

        where = {"seed": spec.seed, "epoch": 0}
        pool = Pool(examples.ids, examples.labels, 10, take)
        operation = spec.augmentation.loss_guided()
        assert operation is not None
        copies = LossGuidedCopies(operation, spec.augmentation.weak, pool, losses)
        ids, numbers = np.repeat(examples.ids, 2), np.tile([1, 2], 40)
        pictures, targets = copies(ids, numbers, **where)
        assert ((targets > 0) & (targets < 1)).any(1).sum() > 10, "some labels must be soft"
        originals = Augmenter(spec.augmentation.weak)(take(examples.ids), examples.ids, np.zeros(40, np.int64), **where)
        total = (
            losses(originals, torch.eye(10)[torch.from_numpy(examples.labels)]).sum() + losses(pictures, targets).sum()
        )
        assert epoch.record.train_loss == pytest.approx(float(total) / 120, rel=1e-5)

    def test_test_images_and_proxies_are_cropped_where_training_images_are(
        self, tmp_path: Path, images: ImageData
    ) -> None:
        spec = trial(
            augmentation={
                "weak": [{"name": "random_crop", "size": 6, "padding": 0}],
                "evaluation": [{"name": "center_crop", "size": 6}],
            },
            training={"epochs": 1, "optimizer": {"learning_rate": 1e-12}},
            selection={"strategy": "max_loss"},
        )
        storage = LocalStorage(tmp_path)
        (epoch,) = run(spec, storage, images)
        parameters = numpy_state(build_model(spec.model, 10, (6, 6, 1), spec.seed))

        def losses(pictures: np.ndarray, labels: np.ndarray) -> np.ndarray:
            inputs = (pictures[:, 1:7, 1:7].astype(np.float64) / 255 - images.mean) / images.std
            return mlp_losses(parameters, inputs.reshape(len(inputs), -1), labels)

        tested = losses(images.test.images, images.test.labels)
        assert epoch.record.test_loss == pytest.approx(tested.mean(), rel=1e-5)
        examples = corrupt(spec.dataset, images, spec.seed)
        largest = examples.ids[np.argsort(-losses(images.train.images[examples.ids], examples.labels))[:20]]
        assert set(selection_of(spec, 0, storage, images)["ids"].tolist()) == set(largest.tolist())


class TestSelections:
    @pytest.mark.parametrize("strategy", ["coreset", "max_loss", "random"])
    def test_overlap_and_mislabelled_are_counted(self, strategy: str, tmp_path: Path, images: ImageData) -> None:
        spec = trial(selection={"strategy": strategy}, training={"epochs": 1})
        storage = LocalStorage(tmp_path)
        (epoch,) = run(spec, storage, images)
        examples = corrupt(spec.dataset, images, spec.seed)
        parameters = numpy_state(build_model(spec.model, 10, images.image_shape, spec.seed))
        losses = mlp_losses(parameters, plain_inputs(images, examples.ids), examples.labels)
        largest = set(examples.ids[np.argsort(-losses)[:20]].tolist())
        ids = selection_of(spec, 0, storage, images)["ids"].tolist()
        wrong = set(examples.ids[examples.labels != examples.clean_labels].tolist())
        assert len(wrong) == 60
        assert epoch.selection is not None
        assert epoch.selection.mislabelled == len(wrong & set(ids)) / 20
        if strategy == "random":
            assert epoch.selection.overlap_max_loss is None
        else:
            assert epoch.selection.overlap_max_loss == len(largest & set(ids)) / 20
        if strategy == "max_loss":
            assert set(ids) == largest

    def test_are_made_when_due_and_stored(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"epochs": 4}, selection={"every": 2, "warmup_epochs": 1})
        storage = LocalStorage(tmp_path)
        epochs = run(spec, storage, images)
        made = [(record.epoch, record.strategy) for record in result_of(spec, storage, images).selections]
        assert made == [(0, "random"), (1, "coreset"), (3, "coreset")]
        assert [epoch.selection is not None for epoch in epochs] == [True, True, False, True]
        folder = trial_key(trial_id(spec, images.fingerprint), "selections")
        assert storage.list(folder) == [f"{folder}/0000{epoch}.npz" for epoch in (0, 1, 3)]

    def test_a_selection_comes_from_the_network_of_its_epoch(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(selection={"strategy": "max_loss"}, training={"epochs": 3}, checkpoints={"keep": [2]})
        storage = LocalStorage(tmp_path)
        run(spec, storage, images)
        examples = corrupt(spec.dataset, images, spec.seed)
        parameters = [value.double().numpy() for value in weights_after(spec, 2, storage, images).values()]
        losses = mlp_losses(parameters, plain_inputs(images, examples.ids), examples.labels)
        largest = set(examples.ids[np.argsort(-losses)[:20]].tolist())
        assert set(selection_of(spec, 2, storage, images)["ids"].tolist()) == largest


class TestEvaluation:
    def test_every_n_and_the_last(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"epochs": 5}, selection={"strategy": "random"}, evaluation={"every": 2})
        storage = LocalStorage(tmp_path)
        epochs = run(spec, storage, images)
        assert [epoch.record.test_accuracy is not None for epoch in epochs] == [False, True, False, True, True]
        assert [epoch.times.evaluation > 0 for epoch in epochs] == [False, True, False, True, True]
        assert result_of(spec, storage, images).test_accuracy == epochs[-1].record.test_accuracy

    @pytest.mark.parametrize("model", ["mlp", "small_cnn"])
    def test_does_not_disturb_training(self, model: str, tmp_path: Path, images: ImageData) -> None:
        trained = []
        for every in (1, 3):
            spec = trial(model={"name": model, "width": 4}, evaluation={"every": every}, checkpoints={"keep": [3]})
            storage = LocalStorage(tmp_path / str(every))
            run(spec, storage, images)
            trained.append(weights_after(spec, 3, storage, images))
        assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


class TestRepetition:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_the_same_spec_gives_the_same_bytes(self, strategy: str, tmp_path: Path, images: ImageData) -> None:
        spec = trial(
            model={"name": "small_cnn", "width": 4},
            selection={"strategy": strategy},
            training={"epochs": 2},
            checkpoints={"keep": [2]},
        )
        for number, place in enumerate(("a", "b")):
            torch.manual_seed(number)  # what ran before does not matter
            run(spec, LocalStorage(tmp_path / place), images)
        assert left_behind(LocalStorage(tmp_path / "a")) == left_behind(LocalStorage(tmp_path / "b"))

    @pytest.mark.parametrize("sampling", ["highest", "proportional"])
    def test_loss_guided_copies_too_also_when_gone_on_with(
        self, sampling: str, tmp_path: Path, images: ImageData
    ) -> None:
        guided = {"name": "loss_guided", "candidates": 3, "kept": 2, "cutout": 3, "sampling": sampling}
        spec = trial(
            model={"name": "small_cnn", "width": 4},
            augmentation={"strong": [guided], "copies": 2},
            training={"regime": "full+augmented", "epochs": 3, "batch_size": 64},
            checkpoints={"every": 1, "keep": [3]},
        )
        run(spec, LocalStorage(tmp_path / "whole"), images)
        loop = train(spec, context(spec, LocalStorage(tmp_path / "broken"), images))
        list(itertools.islice(loop, 1))
        loop.close()
        run(spec, LocalStorage(tmp_path / "broken"), images)
        assert left_behind(LocalStorage(tmp_path / "whole")) == left_behind(LocalStorage(tmp_path / "broken"))

    def test_loss_guided_copies_that_nobody_gets_change_nothing(self, tmp_path: Path, images: ImageData) -> None:
        """Strategy none: strong augmentation is no part of the trial's identity, so it must have no effect."""
        trained = []
        for number, strong in enumerate(([], [{"name": "loss_guided", "cutout": 3}])):
            spec = trial(augmentation={"strong": strong}, selection={"strategy": "none"}, checkpoints={"keep": [3]})
            storage = LocalStorage(tmp_path / str(number))
            run(spec, storage, images)
            trained.append(weights_after(spec, 3, storage, images))
        assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])

    def test_another_seed_gives_another_run(self, tmp_path: Path, images: ImageData) -> None:
        losses = {
            seed: run(trial(seed=seed, training={"epochs": 1}), LocalStorage(tmp_path), images)[0].record.train_loss
            for seed in (0, 1)
        }
        assert losses[0] != losses[1]


class TestContinuation:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_killed_at_any_change_of_the_storage(self, strategy: str, tmp_path: Path, images: ImageData) -> None:
        """With a checkpoint of the last epoch, too: killed after it, only the result is missing."""
        spec = trial(
            model={"name": "small_cnn", "width": 4},
            selection={"strategy": strategy, "every": 2},
            training={"regime": "random+augmented", "epochs": 4, "batch_size": 64},
            checkpoints={"every": 1, "keep": [2, 4]},
        )
        for storage in gone_on_after_any_kill(spec, tmp_path, images):
            self.check_times(spec, storage, images)

    @pytest.mark.parametrize("stop", [1, 2, 3, 4])
    @pytest.mark.parametrize("every", [1, 2, 3])
    def test_left_after_any_epoch(self, stop: int, every: int, tmp_path: Path, images: ImageData) -> None:
        spec = trial(
            selection={"every": 2, "warmup_epochs": 1},
            training={"regime": "full+augmented", "epochs": 5, "batch_size": 64},
            checkpoints={"every": every},
        )
        whole, broken = LocalStorage(tmp_path / "whole"), LocalStorage(tmp_path / "broken")
        run(spec, whole, images)
        loop = train(spec, context(spec, broken, images))
        seen = [epoch.record for epoch in itertools.islice(loop, stop)]
        loop.close()
        after = run(spec, broken, images, notify=pytest.fail)
        first = stop - stop % every + 1
        assert [epoch.record.epoch for epoch in after] == list(range(first, 6))
        assert left_behind(broken) == left_behind(whole)
        epochs = result_of(spec, broken, images).epochs
        assert [*seen[: first - 1], *(epoch.record for epoch in after)] == list(epochs)
        self.check_times(spec, broken, images)

    def test_only_the_result_was_missing(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(checkpoints={"keep": [3]})
        storage = LocalStorage(tmp_path)
        run(spec, storage, images)
        expected = left_behind(storage)
        storage.delete(trial_key(trial_id(spec, images.fingerprint), "result.json"))
        assert run(spec, storage, images) == []
        assert left_behind(storage) == expected

    def test_from_the_checkpoint_before_a_damaged_one(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"epochs": 4}, checkpoints={"every": 1})
        whole, broken = LocalStorage(tmp_path / "whole"), LocalStorage(tmp_path / "broken")
        run(spec, whole, images)
        loop = train(spec, context(spec, broken, images))
        list(itertools.islice(loop, 3))
        loop.close()
        key = checkpoint_key(trial_id(spec, images.fingerprint), 3)
        broken.write(key, broken.read(key)[:-5])
        notes: list[str] = []
        after = run(spec, broken, images, notify=notes.append)
        assert [epoch.record.epoch for epoch in after] == [3, 4]
        assert len(notes) == 1
        assert key in notes[0]
        assert left_behind(broken) == left_behind(whole)

    @pytest.mark.parametrize("before", [False, True])
    @pytest.mark.parametrize("after", [False, True])
    def test_ran_alone_only_if_it_always_did(
        self, before: bool, after: bool, tmp_path: Path, images: ImageData
    ) -> None:
        spec = trial(checkpoints={"every": 1})
        storage = LocalStorage(tmp_path)
        loop = train(spec, context(spec, storage, images, concurrent=before))
        next(loop)
        loop.close()
        assert len(run(spec, storage, images, concurrent=after)) == 2
        times = load_record(storage, trial_key(trial_id(spec, images.fingerprint), "times.json"), TrialTimes)
        assert times is not None
        assert times.concurrent == (before or after)

    def check_times(self, spec: TrialSpec, storage: LocalStorage, images: ImageData) -> None:
        times = load_record(storage, trial_key(trial_id(spec, images.fingerprint), "times.json"), TrialTimes)
        assert times is not None
        assert [epoch.epoch for epoch in times.epochs] == list(range(1, spec.training.epochs + 1))
        assert all(epoch.train > 0 for epoch in times.epochs)


class TestEnd:
    def test_checkpoints_are_kept_as_asked(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"epochs": 6}, selection={"strategy": "random"}, checkpoints={"every": 1, "keep": [2]})
        storage = LocalStorage(tmp_path)
        folder = trial_key(trial_id(spec, images.fingerprint), "checkpoints")
        loop = train(spec, context(spec, storage, images))
        there = [[int(key[-10:-5]) for key in storage.list(folder)] for _ in loop]
        assert there == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [2, 4, 5], [2]]

    def test_an_earlier_failure_is_forgotten(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"epochs": 1})
        storage = LocalStorage(tmp_path)
        keys = [trial_key(trial_id(spec, images.fingerprint), name) for name in ("error.json", "stopped.json")]
        for key in keys:
            storage.write(key, b"{}")
        run(spec, storage, images)
        assert not any(storage.exists(key) for key in keys)

    def test_the_result_says_what_was_run(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial()
        storage = LocalStorage(tmp_path)
        epochs = run(spec, storage, images, concurrent=True)
        result = result_of(spec, storage, images)
        assert result.spec == spec
        assert (result.data.train, result.data.test) == (200, len(images.test))
        assert result.data.fingerprint == images.fingerprint
        assert result.epochs == tuple(epoch.record for epoch in epochs)
        times = load_record(storage, trial_key(result.trial_id, "times.json"), TrialTimes)
        assert times is not None
        assert times.concurrent
        assert times.epochs == tuple(epoch.times for epoch in epochs)
        assert {"torch", "numpy", "python"} <= set(times.versions)

    def test_a_machine_without_git_has_no_commit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert commits.commit.__wrapped__() == ""

    def test_a_checkpoint_of_another_trial_is_refused(self, tmp_path: Path, images: ImageData) -> None:
        storage = LocalStorage(tmp_path)
        specs = [trial(seed=seed, checkpoints={"every": 1}) for seed in (0, 1)]
        keys = [checkpoint_key(trial_id(spec, images.fingerprint), 1) for spec in specs]
        next(train(specs[0], context(specs[0], storage, images)))
        storage.write(keys[1], storage.read(keys[0]))
        with pytest.raises(RuntimeError, match="belongs to"):
            next(train(specs[1], context(specs[1], storage, images)))

    def test_a_storage_that_fails_is_not_passed_over(self, images: ImageData) -> None:
        with pytest.raises(StorageError, match="/proc/medoid"):
            run(trial(), LocalStorage("/proc/medoid"), images)


class TestDivergence:
    def test_names_epoch_and_step(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"optimizer": {"learning_rate": 1e12}, "regime": "full+augmented"})
        with pytest.raises(DivergedError, match=r"loss is (nan|inf) in epoch 1, step \d+ of 14$") as caught:
            run(spec, LocalStorage(tmp_path), images)
        step = int(str(caught.value).split("step ")[1].split()[0])
        assert step > 1, "the first step is taken with the initial weights"
        assert not [key for key in LocalStorage(tmp_path).list("") if key.endswith("result.json")]

    @pytest.mark.parametrize("regime", ["subset", "random+augmented"])
    def test_in_the_last_step_of_an_epoch_is_found_by_evaluation(
        self, regime: str, tmp_path: Path, images: ImageData
    ) -> None:
        spec = trial(training={"regime": regime, "batch_size": 1000, "optimizer": {"learning_rate": 1e30}, "epochs": 1})
        with pytest.raises(DivergedError, match=r"the test loss is (nan|inf) after epoch 1"):
            run(spec, LocalStorage(tmp_path), images)

    def test_is_found_before_a_selection_uses_it(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(
            training={"batch_size": 1000, "optimizer": {"learning_rate": 1e30}, "epochs": 3}, evaluation={"every": 3}
        )
        with pytest.raises(DivergedError, match=r"training example \d+ is not finite after epoch 1"):
            run(spec, LocalStorage(tmp_path), images)

    def test_a_large_rate_that_stays_finite_is_no_divergence(self, tmp_path: Path, images: ImageData) -> None:
        spec = trial(training={"optimizer": {"learning_rate": 5.0}, "epochs": 1})
        (epoch,) = run(spec, LocalStorage(tmp_path), images)
        assert math.isfinite(epoch.record.train_loss)
