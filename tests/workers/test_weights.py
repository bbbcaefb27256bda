"""Weights to start from: files, torchvision's, what does not fit, and their part in a trial's identity."""

import hashlib
import io
from collections import OrderedDict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from small_trials import result_of, run, trial, weights_after
from torch import nn
from torchvision.models import ResNet18_Weights

from orchestrator.inline import run_inline
from orchestrator.preparation import Library, prepare
from orchestrator.watching import Watchers
from specs import SpecError, SweepSpec
from specs.model import OWN_MODELS, Model
from workers.assignment import Assignment
from workers.assignment import run as run_assigned
from workers.data import ImageData
from workers.models import build_model
from workers.storage import LocalStorage
from workers.weights import Weights, WeightsError, read_weights

SHAPE = (32, 32, 3)


def save(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def network(name: str, classes: int = 7, seed: int = 1, **options: object) -> nn.Module:
    return build_model(Model(name=name, **options), classes, SHAPE, seed)  # type: ignore[arg-type]


def started(
    name: str, path: Path, classes: int = 7, shape: tuple[int, int, int] = SHAPE, **options: object
) -> nn.Module:
    model = Model(name=name, pretrained=str(path), **options)  # type: ignore[arg-type]
    return build_model(model, classes, shape, seed=0, weights=read_weights(model))


def same(one: nn.Module, other: nn.Module) -> set[str]:
    """The names of what two networks have in common."""
    theirs = other.state_dict()
    return {name for name, value in one.state_dict().items() if torch.equal(value, theirs[name])}


class TestFiles:
    @pytest.mark.parametrize("name", [*OWN_MODELS, "resnet18", "mobilenet_v3_small"])
    def test_round_trip(self, name: str, tmp_path: Path) -> None:
        saved = network(name)
        found = started(name, save(saved.state_dict(), tmp_path / "weights.pth"))
        assert same(saved, found) == set(saved.state_dict())

    def test_a_last_layer_of_other_classes_is_initialised_from_the_seed(self, tmp_path: Path) -> None:
        saved, fresh = network("resnet18", classes=1000), network("resnet18", seed=0)
        found = started("resnet18", save(saved.state_dict(), tmp_path / "weights.pth"))
        classifier = {"fc.weight", "fc.bias"}
        assert same(found, build_model(Model(name="resnet18"), 7, SHAPE, seed=0)) >= classifier
        assert classifier <= same(found, fresh)
        state, theirs = found.state_dict(), saved.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in state.items() if name not in classifier)

    def test_grey_images_go_through_the_same_weights(self, tmp_path: Path) -> None:
        saved = network("resnet18").eval()
        path = save(saved.state_dict(), tmp_path / "weights.pth")
        grey = torch.randn(2, 1, 32, 32)
        found = started("resnet18", path, shape=(32, 32, 1)).eval()
        assert torch.equal(found(grey), saved(grey.expand(-1, 3, -1, -1)))

    def test_a_file_from_before_batches_were_counted(self, tmp_path: Path) -> None:
        saved = network("resnet8").state_dict()
        old = OrderedDict((name, value) for name, value in saved.items() if not name.endswith("num_batches_tracked"))
        found = started("resnet8", save(old, tmp_path / "old.pth"))
        assert all(torch.equal(value, old[name]) for name, value in found.state_dict().items() if name in old)

    def test_the_fingerprint_is_the_contents(self, tmp_path: Path) -> None:
        path = save(network("resnet8").state_dict(), tmp_path / "here.pth")
        moved = tmp_path / "there.pth"
        moved.write_bytes(path.read_bytes())
        other = save(network("resnet8", seed=2).state_dict(), tmp_path / "other.pth")
        found = [read(path).fingerprint for path in (path, moved, other)]
        assert found[0] == found[1] != found[2]
        assert len(found[0]) == 16


def read(path: Path) -> Weights:
    weights = read_weights(Model(name="resnet8", pretrained=str(path)))
    assert weights is not None
    return weights


class TestRefused:
    def test_of_another_shape(self, tmp_path: Path) -> None:
        path = save(network("resnet18", stem="small").state_dict(), tmp_path / "weights.pth")
        match = (
            f"model.pretrained: {path} holds tensors of another shape: "
            "conv1.weight is 64x3x3x3 there and 64x3x7x7 in the network"
        )
        with pytest.raises(WeightsError, match=match):
            started("resnet18", path)

    def test_of_another_width_the_last_layer_too(self, tmp_path: Path) -> None:
        path = save(network("mlp", width=5).state_dict(), tmp_path / "weights.pth")
        with pytest.raises(
            WeightsError, match=r"1\.weight is 5x3072 there and 4x3072 .*, 3.weight is 7x5 there and 7x4"
        ):
            started("mlp", path, width=4)

    def test_of_another_network(self, tmp_path: Path) -> None:
        path = save(network("resnet20").state_dict(), tmp_path / "weights.pth")
        with pytest.raises(
            WeightsError, match=r"holds tensors that the network has not: blocks\.3\.conv1.* and \d+ more"
        ):
            started("resnet8", path)
        with pytest.raises(WeightsError, match=r"lacks tensors of the network: blocks\.9\.conv1"):
            started("resnet32", path)

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            ([torch.zeros(2)], "holds list, not a state dict"),
            ({}, "holds dict, not a state dict"),
            ({"epoch": 3, "model": {"a": torch.zeros(2)}}, "is not a state dict: epoch, model is not a tensor"),
            (nn.Linear(2, 2), "of something else than a state_dict.*nothing in it was run$"),  # it could do anything
        ],
    )
    def test_no_state_dict(self, content: object, match: str, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=match):
            read(save(content, tmp_path / "weights.pth"))

    @pytest.mark.parametrize("damage", ["empty", "cut", "text"])
    def test_damaged(self, damage: str, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        torch.save(network("resnet8").state_dict(), buffer)
        content = {"empty": b"", "cut": buffer.getvalue()[:1000], "text": b"no weights\n"}[damage]
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=f"model.pretrained: {path} cannot be read"):
            read(path)

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"gone\.pth is not a file"):
            read(tmp_path / "gone.pth")


class TestTorchvisions:
    PUBLISHED = Model(name="resnet18", pretrained="torchvision")

    @pytest.fixture
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
        return tmp_path / "home" / "hub" / "checkpoints"

    def test_are_taken_from_the_hubs_folder(self, hub: Path) -> None:
        hub.mkdir(parents=True)
        saved = network("resnet18", classes=1000)
        save(saved.state_dict(), hub / "resnet18-f37072fd.pth")
        weights = read_weights(self.PUBLISHED)
        found = build_model(self.PUBLISHED, 1000, SHAPE, seed=0, weights=weights)
        assert same(saved, found) == set(saved.state_dict())

    def test_are_not_downloaded_unasked(self, hub: Path) -> None:
        with pytest.raises(
            WeightsError, match=r"resnet18-f37072fd.pth; model.download: true fetches them, \$TORCH_HOME"
        ):
            read_weights(self.PUBLISHED)
        assert not hub.exists()

    def test_are_downloaded_when_asked(self, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "mirror"
        folder.mkdir()
        saved = network("resnet18", classes=1000)
        content = save(saved.state_dict(), folder / "weights.pth").read_bytes()
        name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"  # torch checks the digits in the name
        (folder / "weights.pth").rename(folder / name)
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", f"{address}/{name}")
            weights = read_weights(self.PUBLISHED.model_copy(update={"download": True}))
            assert weights is not None
            assert weights.fingerprint == hashlib.sha256(content).hexdigest()[:16]
            assert all(torch.equal(value, weights.tensors[name]) for name, value in saved.state_dict().items())
            missing = f"{address}/resnet18-00000000.pth"
            monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", missing)
            with pytest.raises(WeightsError, match=r"weights of resnet18: .*404"):
                read_weights(self.PUBLISHED.model_copy(update={"download": True}))
            server.shutdown()

    def test_that_do_not_exist(self) -> None:
        with pytest.raises(WeightsError, match="torchvision has no weights IMAGENET1K_V1 of vit_h_14; name a file"):
            read_weights(Model(name="vit_h_14", pretrained="torchvision"))


class TestTrials:
    def test_a_trial_starts_from_them(self, tmp_path: Path, images: ImageData) -> None:
        """With a learning rate of almost nothing, what comes out is what went in."""
        saved = build_model(Model(name="mlp", width=8), 10, images.image_shape, seed=9)
        path = save(saved.state_dict(), tmp_path / "weights.pth")
        spec = trial(
            model={"pretrained": str(path)},
            training={"optimizer": {"learning_rate": 1e-30, "weight_decay": 0.0}, "epochs": 1},
            checkpoints={"keep": [1]},
        )
        storage = LocalStorage(tmp_path / "runs")
        run(spec, storage, images, weights=read_weights(spec.model))
        found = weights_after(spec, 1, storage, images)
        assert all(torch.equal(value, found[name]) for name, value in saved.state_dict().items())
        assert result_of(spec, storage, images).spec.model.pretrained == str(path)

    def sweep(self, tmp_path: Path, **model: object) -> SweepSpec:
        return SweepSpec.model_validate(
            {
                "name": "started",
                "dataset": {"name": "digits", "train_per_class": 5},
                "model": {"name": "mlp", "width": 4, **model},
                "training": {"regime": "full+augmented", "epochs": 1},
                "selection": {"strategy": "none"},
                "storage": {"path": str(tmp_path / "runs")},
            }
        )

    def state(self, images: ImageData, seed: int, width: int = 4) -> dict[str, torch.Tensor]:
        return build_model(Model(name="mlp", width=width), 10, images.image_shape, seed).state_dict()

    def test_other_weights_are_another_trial(self, tmp_path: Path, images: ImageData) -> None:
        path = save(self.state(images, seed=1), tmp_path / "weights.pth")
        sweep = self.sweep(tmp_path, pretrained=str(path))

        def prepared() -> tuple[str, str]:
            (planned,) = prepare(sweep, Library(), notify=print).trials
            return planned.id, planned.state

        before = prepare(sweep, Library(), notify=print)
        run_inline(before, Watchers())
        assert prepared() == (before.trials[0].id, "finished")
        save(self.state(images, seed=2), path)
        assert prepared() == (prepared()[0], "new")
        assert prepared()[0] != before.trials[0].id

    def test_what_does_not_fit_is_refused_before_training(self, tmp_path: Path, images: ImageData) -> None:
        path = save(self.state(images, seed=1, width=5), tmp_path / "weights.pth")
        with pytest.raises(
            SpecError, match=f"started: model.pretrained: {path} holds tensors of another shape: 1.weight"
        ):
            prepare(self.sweep(tmp_path, pretrained=str(path)), Library(), notify=print)
        with pytest.raises(SpecError, match=r"started: model\.pretrained: gone\.pth is not a file"):
            prepare(self.sweep(tmp_path, pretrained="gone.pth"), Library(), notify=print)

    def test_a_process_with_other_weights_refuses_to_train(self, tmp_path: Path, images: ImageData) -> None:
        path = save(self.state(images, seed=1), tmp_path / "weights.pth")
        (planned,) = prepare(self.sweep(tmp_path, pretrained=str(path)), Library(), notify=print).trials
        assignment = Assignment(planned.id, planned.spec, LocalStorage(tmp_path / "runs"))
        save(self.state(images, seed=2), path)
        with pytest.raises(RuntimeError, match=f"not those that trial {planned.id} was prepared with"):
            next(run_assigned(assignment))
