"""A sweep as it stands in a spec file, and the trials that it is made of."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from specs.augmentation import Augmentation
from specs.base import AsTuple, Positive, Section, Seed
from specs.dataset import DOWNLOADABLE, FILES, LARGEST_IN_MEMORY, Dataset
from specs.model import OWN_MODELS, PUBLISHED, RESNETS, Model
from specs.paper import Exhibit
from specs.places import brought
from specs.resources import Checkpoints, Evaluation, Metric, Resources, Storage, Tracking
from specs.selection import Selection
from specs.training import Training

AXES = ("grid", "zip", "sample")


class Experiment(Section):
    """Everything but the seed: what one trial does."""

    dataset: Dataset = Field(description="What is learned.")
    model: Model = Field(description="The network.")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="Weak and strong augmentation.")
    training: Training = Field(description="Regime, epochs, batch size, optimiser, schedule.")
    selection: Selection = Field(default_factory=Selection, description="Which examples get augmented copies.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="When the test accuracy is measured.")
    checkpoints: Checkpoints = Field(default_factory=Checkpoints, description="When the state is saved.")
    resources: Resources = Field(default_factory=Resources, description="Processors for a trial.")


class TrialSpec(Experiment):
    """One training run: an experiment and a seed. Combinations of fields are checked here."""

    seed: Seed = Field(description="Seed of every random stream of the trial.")

    @model_validator(mode="after")
    def _combinations(self) -> "TrialSpec":
        wrong: list[str] = []
        chosen, training = self.selection, self.training
        given = [name for name in ("fraction", "budget", "tolerance") if getattr(chosen, name) is not None]
        if len(given) > 1:
            wrong.append(f"selection.{given[1]}: {' and '.join(given)} are set; keep one of them")
        if not given and self.needs_size():
            wrong.append(
                f"selection.fraction: strategy {chosen.strategy} in regime {training.regime} needs one of "
                "fraction, budget" + (", tolerance" if chosen.strategy == "coreset" else "")
            )
        if given == ["tolerance"]:
            if chosen.strategy != "coreset" and self.needs_size():
                wrong.append(
                    f"selection.tolerance: only strategy coreset takes a tolerance; {chosen.strategy} needs "
                    "fraction or budget"
                )
            elif chosen.strategy == "coreset" and training.regime == "random+augmented":
                wrong.append(
                    "selection.tolerance: regime random+augmented needs fraction or budget: its main set has k examples"
                )
            elif chosen.strategy == "coreset" and chosen.warmup_epochs:
                wrong.append(
                    "selection.warmup_epochs: warm-up draws k examples at random; use fraction or budget, or no warm-up"
                )
        wrong += self._data()
        copies = self.augmentation
        in_place = chosen.strategy != "none" and copies.placement == "in_place"
        if in_place and not copies.strong and training.regime != "subset":  # there it is training on S, weak only
            wrong.append(
                "augmentation.strong: placement in_place without a strong operation changes nothing in regime "
                f"{training.regime}; name at least one"
            )
        wrong += self._loss_guided()
        late = [epoch for epoch in self.checkpoints.keep if epoch > training.epochs]
        if late:
            wrong.append(
                f"checkpoints.keep: training ends after epoch {training.epochs}; {late} would never be reached"
            )
        if self.by_proxies() and chosen.warmup_epochs >= training.epochs:
            wrong.append(f"selection.warmup_epochs: must be below training.epochs, {training.epochs}")
        wrong += self._overlap() + self._harvest() + self._network()
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _data(self) -> list[str]:
        dataset, wrong = self.dataset, []
        if dataset.name == "digits":
            if dataset.root is not None:
                wrong.append("dataset.root: digits are shipped with medoid; leave root out")
        elif dataset.root is None:
            wrong.append(f"dataset.root: dataset {dataset.name} needs the folder that holds it")
        if dataset.download and dataset.name not in DOWNLOADABLE:
            wrong.append(f"dataset.download: {dataset.name} cannot be downloaded; leave download out")
        elif dataset.download and brought(dataset.root or ""):
            wrong.append(f"dataset.download: torchvision downloads into a folder only; root is {dataset.root}")
        if (dataset.image_size or 0) > LARGEST_IN_MEMORY and dataset.name not in FILES:
            wrong.append(f"dataset.image_size: {dataset.name} stays in memory; should be at most {LARGEST_IN_MEMORY}")
        if not dataset.clutter and dataset.name != "caltech256":
            wrong.append(f"dataset.clutter: only caltech256 has such a class; {dataset.name} has not")
        return wrong

    def _network(self) -> list[str]:
        model, wrong = self.model, []
        if model.width is not None and model.name not in ("mlp", "small_cnn"):
            wrong.append(f"model.width: only mlp and small_cnn have a width; {model.name} has not")
        if model.dropout and model.name != "wrn28_10":
            wrong.append(f"model.dropout: only wrn28_10 takes it; {model.name} does not")
        if model.stem == "small" and model.name not in RESNETS:
            wrong.append(f"model.stem: only torchvision's ResNets have a small one; {model.name} has not")
        if model.pretrained == PUBLISHED and model.name in OWN_MODELS:
            wrong.append(f"model.pretrained: torchvision has no weights of {model.name}; name a file")
        if model.pretrained == PUBLISHED and model.name == "efficientnet_v2_l":
            wrong.append(
                "model.pretrained: torchvision's weights of efficientnet_v2_l expect inputs that are normalised in a "
                "way of their own, which dataset.normalization has not; use another model"
            )
        if model.download and model.pretrained != PUBLISHED:
            wrong.append("model.download: only torchvision's weights can be downloaded: set pretrained: torchvision")
        return wrong

    def _loss_guided(self) -> list[str]:
        copies, guided = self.augmentation, self.augmentation.loss_guided()
        if any(operation.name == "loss_guided" for operation in copies.weak):
            return ["augmentation.weak: loss_guided makes copies: name it under strong"]
        if guided is None:
            return []
        if len(copies.strong) > 1:
            return ["augmentation.strong: loss_guided composes operations of its own; it must stand alone"]
        if copies.copies != guided.kept:
            return [
                "augmentation.copies: the copies are what loss_guided keeps: should be its `kept`, "
                f"{guided.kept} (of {guided.candidates} candidates)"
            ]
        return []

    def _overlap(self) -> list[str]:
        chosen, epochs = self.selection, self.training.epochs
        if chosen.lag > chosen.every:
            return [
                f"selection.lag: should be at most selection.every, {chosen.every}: "
                "a selection is used before the next is asked for"
            ]
        used = chosen.warmup_epochs + chosen.lag
        if self.overlapped() and 0 < chosen.warmup_epochs < epochs <= used:
            return [
                f"selection.lag: the first selection, asked for after warmup_epochs = {chosen.warmup_epochs}, would be "
                f"used after epoch {used}; training has {epochs}"
            ]
        return []

    def _harvest(self) -> list[str]:
        if not self.harvests():
            return []
        remedy = "needs the original of every example in every epoch: regime full+augmented, placement append"
        if self.training.regime != "full+augmented":
            return [f"selection.proxy_source: harvest {remedy}; regime {self.training.regime} leaves some out"]
        if self.augmentation.placement == "in_place":
            return [f"selection.proxy_source: harvest {remedy}; placement in_place replaces those of S by copies"]
        return []

    def metric(self) -> Metric:
        """What test accuracy means."""
        default: Metric = "balanced_accuracy" if self.dataset.name == "caltech256" else "accuracy"
        return self.evaluation.metric or default

    def normalization(self) -> Literal["data", "imagenet"]:
        """Whose mean and deviation inputs are normalised by: weights pretrained on ImageNet expect its own."""
        pretrained = self.model.pretrained is not None and self.model.name not in OWN_MODELS
        return self.dataset.normalization or ("imagenet" if pretrained else "data")

    def by_proxies(self) -> bool:
        """Whether S is selected by losses or gradients."""
        return self.selection.strategy in ("max_loss", "coreset")

    def overlapped(self) -> bool:
        """Whether selections are computed beside training."""
        return self.by_proxies() and self.selection.mode == "overlapped"

    def harvests(self) -> bool:
        """Whether losses and proxies are taken from training itself."""
        return self.by_proxies() and self.selection.proxy_source == "harvest"

    def needs_size(self) -> bool:
        """Whether k has an effect: on S, on the main set of `random+augmented`, or on the subset of `none`."""
        if self.selection.strategy in ("random", "max_loss", "coreset"):
            return True
        if self.training.regime == "random+augmented":
            return True
        return self.selection.strategy == "none" and self.training.regime == "subset"


class Distribution(Section):
    """A range from which `sample` draws."""

    distribution: Literal["uniform", "log_uniform", "integer"] = Field(
        description="How values are spread over the range."
    )
    low: float = Field(description="Smallest value.")
    high: float = Field(description="Largest value (for integer: included).")

    @model_validator(mode="after")
    def _ordered(self) -> "Distribution":
        if not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low:g} and {self.high:g}")
        if self.distribution == "log_uniform" and self.low <= 0:
            raise ValueError(f"log_uniform needs low above 0; got {self.low:g}")
        if self.distribution == "integer" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"integer needs whole bounds; got {self.low:g} and {self.high:g}")
        return self


class Asha(Section):
    """Asynchronous successive halving: stops the trials that fall behind. They stay outside the table."""

    metric: Literal["test_accuracy", "train_loss"] = Field(
        "test_accuracy",
        description="What trials are compared by. Test accuracy makes the choice peek at the test set.",
    )
    grace_epochs: Positive = Field(description="Epochs every trial runs before it can be stopped.")
    reduction_factor: Annotated[int, Field(ge=2)] = Field(3, description="One in this many goes on at each halving.")


class Axes(Section):
    """Axes over dotted fields. The trials are grid x zip x sample x seeds."""

    grid: dict[str, Annotated[tuple[Any, ...], AsTuple]] = Field(
        default_factory=dict, description="Field: values; every combination is a trial."
    )
    zip: dict[str, Annotated[tuple[Any, ...], AsTuple]] = Field(
        default_factory=dict,
        description="Field: values; the first of each make a trial, then the second of each, …",
    )
    sample: dict[str, Distribution] = Field(default_factory=dict, description="Field: distribution to draw from.")
    samples: Positive = Field(1, description="How many draws `sample` makes; needs a field in `sample`.")
    sample_seed: Seed = Field(0, description="Seed of the draws.")
    asha: Asha | None = Field(None, description="Early stopping of poor trials.")

    @field_validator("samples")
    @classmethod
    def _something_to_sample(cls, samples: int, info: ValidationInfo) -> int:
        if samples > 1 and info.data.get("sample") == {}:
            raise ValueError("there is nothing to draw: name a field under sweep.sample, or leave samples out")
        return samples


class SweepSpec(Experiment):
    """A spec file: an experiment, the seeds to repeat it with, and axes to vary it along."""

    model_config = ConfigDict(title="medoid spec")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")] = Field(
        description="Name of the sweep and of its folder: lower-case letters, digits, '_', '-', '.'."
    )
    description: str = Field("", description="What the sweep is for; shown in the report.")
    reproduces: Exhibit | None = Field(
        None,
        description="The table or figure of the paper, by the library spec with its set-up, that the report lays its "
        "results out as, beside the published figures. Changes no result.",
    )
    seeds: Annotated[tuple[Seed, ...], AsTuple, Field(min_length=1)] = Field(
        (0,), description="Every combination of the axes is run once with each seed."
    )
    sweep: Axes = Field(default_factory=Axes, description="What varies between trials.")
    tracking: Tracking = Field(default_factory=Tracking, description="Where MLflow keeps the runs.")
    storage: Storage = Field(default_factory=Storage, description="Where everything is kept.")

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"each seed must stand here once; {', '.join(map(str, twice))} stands more often")
        return seeds
