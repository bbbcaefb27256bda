"""What makes two trials the same. Every field of a trial stands here, so that a new one forces a decision."""

import copy
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import pytest

import specs
from specs.base import Section
from specs.identity import digest

# operation: another value of each of its options
OPERATIONS: dict[str, dict[str, Any]] = {
    "random_crop": {"padding": 2, "size": 6},
    "random_resized_crop": {"size": 6, "scale": [0.5, 1], "ratio": [1, 1]},
    "center_crop": {"size": 6},
    "resize": {"size": 6},
    "random_flip": {"probability": 0.25},
    "random_rotation": {"degrees": 30},
    "autoaugment": {"policy": "svhn"},
    "randaugment": {"num_ops": 1, "magnitude": 3},
    "cutout": {"size": 3},
    "augmix": {"width": 2, "depth": 2, "severity": 1, "alpha": 2.0, "all_ops": True},
    "perturb": {"brightness": 0.1, "sigma": [1, 1], "kernel": 3},
    "noise": {"epsilon": 16},
}
REQUIRED = {"random_resized_crop": {"size": 8}, "center_crop": {"size": 8}, "resize": {"size": 8}}
EVERY_OPERATION = [{"name": name, **REQUIRED.get(name, {})} for name in OPERATIONS]
GUIDED = {"augmentation.strong": [{"name": "loss_guided"}]}  # it stands alone, and never among the weak ones
GUIDED_OPTIONS = {
    "operations": 3,
    "candidates": 5,
    "sampling": "proportional",
    "cutout": 8,
    "mixup.probability": 0.1,
    "mixup.alpha": 2.0,
}

BASE: dict[str, Any] = {
    "seed": 0,
    "dataset": {"name": "mnist", "root": "/data"},
    "model": {"name": "mlp"},
    "augmentation": {
        "weak": EVERY_OPERATION,
        "strong": EVERY_OPERATION,
    },
    "training": {
        "regime": "subset",
        "epochs": 9,
        "schedule": {"name": "milestones", "milestones": [3, 6]},
    },
    "selection": {"strategy": "coreset", "fraction": 0.1},
}

# field: another value of it, and what else must be set for that value to count
CHANGES_THE_RESULT: dict[str, tuple[Any, dict[str, Any]]] = {
    "seed": (1, {}),
    "dataset.name": ("svhn", {}),
    "dataset.image_size": (16, {}),
    "dataset.clutter": (False, {"dataset.name": "caltech256"}),
    "dataset.normalization": ("imagenet", {}),
    "dataset.train_per_class": (10, {}),
    "dataset.label_noise": (0.5, {}),
    "dataset.imbalance_factor": (10.0, {}),
    "model.name": ("small_cnn", {}),
    "model.width": (64, {}),
    "model.dropout": (0.3, {"model.name": "wrn28_10"}),
    "model.stem": ("small", {"model.name": "resnet18"}),
    "model.pretrained": ("torchvision", {"model.name": "resnet18"}),
    **{
        f"augmentation.{group}[{name}].{option}": (value, {})
        for group in ("weak", "strong")
        for name, options in OPERATIONS.items()
        for option, value in options.items()
    },
    **{
        f"augmentation.{group}[{name}].name": ("random_flip" if name != "random_flip" else "cutout", {})
        for group in ("weak", "strong")
        for name in OPERATIONS
    },
    **{f"augmentation.strong[loss_guided].{option}": (value, GUIDED) for option, value in GUIDED_OPTIONS.items()},
    "augmentation.strong[loss_guided].name": ("cutout", GUIDED),
    **{
        f"augmentation.evaluation[{name}].{option}": (value, {"augmentation.evaluation": [{"name": name, "size": 8}]})
        for name, other in (("center_crop", "resize"), ("resize", "center_crop"))
        for option, value in (("size", 6), ("name", other))
    },
    "augmentation.copies": (2, {}),
    "augmentation.placement": ("in_place", {}),
    "training.regime": ("full+augmented", {}),
    "training.epochs": (10, {}),
    "training.batch_size": (64, {}),
    "training.optimizer.learning_rate": (0.2, {}),
    "training.optimizer.momentum": (0.5, {}),
    "training.optimizer.nesterov": (True, {}),
    "training.optimizer.weight_decay": (0.0, {}),
    "training.schedule[milestones].name": ({"name": "cosine"}, {}),
    "training.schedule[milestones].milestones": ([3, 7], {}),
    "training.schedule[milestones].gamma": (0.2, {}),
    "training.schedule[milestones].warmup_epochs": (1, {}),
    "training.schedule[cosine].name": ({"name": "constant"}, {"training.schedule": {"name": "cosine"}}),
    "training.schedule[cosine].warmup_epochs": (1, {"training.schedule": {"name": "cosine"}}),
    "training.schedule[constant].name": ({"name": "cosine"}, {"training.schedule": {"name": "constant"}}),
    "training.schedule[constant].warmup_epochs": (1, {"training.schedule": {"name": "constant"}}),
    "evaluation.metric": ("balanced_accuracy", {}),
    "selection.strategy": ("max_loss", {}),
    "selection.fraction": (0.2, {}),
    "selection.budget": (20, {"selection.fraction": None, "selection.budget": 10}),
    "selection.tolerance": (2.0, {"selection.fraction": None, "selection.tolerance": 1.0}),
    "selection.every": (2, {}),
    "selection.warmup_epochs": (1, {}),
    "selection.objective": ("rbf", {}),
    "selection.solver": ("stochastic", {}),
    "selection.epsilon": (0.1, {"selection.solver": "stochastic"}),
    "selection.partitions": (4, {}),
    "selection.alpha": (2.0, {"selection.partitions": 4}),
    "selection.sample": (100, {"selection.partitions": 4}),
    "selection.mode": ("overlapped", {}),
    "selection.lag": (2, {"selection.mode": "overlapped", "selection.every": 2}),
    "selection.proxy": ("last_layer", {}),
    "selection.proxy_source": ("harvest", {"training.regime": "full+augmented"}),
    "selection.per_class": ("equal", {}),
    "selection.weights": ("off", {}),
    "resources.workers": (2, {}),
    "resources.cpus": (2, {}),
    "resources.gpus": (1, {}),
    "resources.deterministic": (False, {"resources.gpus": 1}),
}

# field: another value of it
LEAVES_THE_RESULT: dict[str, Any] = {
    "dataset.root": "/elsewhere",  # the data's fingerprint counts, not its place
    "dataset.download": True,
    "evaluation.every": 4,
    "resources.loaders": 3,
    "checkpoints.every": 1,
    "checkpoints.keep": [2],
    "resources.selection_shards": 4,
    "resources.max_failures": 0,
}

# The same, where something else must be set first.
LEAVES_THE_RESULT_HERE: dict[str, tuple[Any, dict[str, Any]]] = {
    "model.download": (True, {"model.name": "resnet18", "model.pretrained": "torchvision"}),
    "resources.cuda_graphs": (True, {"resources.gpus": 1}),
    "dataset.endpoint": ("http://minio:9000", {"dataset.root": "s3://bucket/data"}),
}

# A field that cannot change alone, and the one that changes with it.
TIED = {"augmentation.strong[loss_guided].kept": "augmentation.copies"}

# what holds; fields that count elsewhere, but have no effect here
WITHOUT_EFFECT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"selection.strategy": "coreset"},
        {
            "selection.solver": "lazy",
            "selection.epsilon": 0.2,
            "selection.alpha": 2.0,
            "selection.sample": 100,
        },
    ),
    (
        {"selection.strategy": "random"},
        {
            "selection.objective": "rbf",
            "selection.proxy": "last_layer",
            "selection.weights": "off",
            "selection.per_class": "equal",
            "selection.warmup_epochs": 2,
        },
    ),
    (
        {"selection.strategy": "max_loss"},
        {
            "selection.objective": "rbf",
            "selection.proxy": "last_layer",
            "selection.weights": "off",
            "selection.per_class": "equal",
        },
    ),
    (
        {"selection.strategy": "none"},
        {
            "augmentation.strong": [],
            "augmentation.copies": 3,
            "augmentation.placement": "in_place",
            "selection.objective": "rbf",
            "selection.warmup_epochs": 2,
        },
    ),
    (
        {"selection.strategy": "none", "training.regime": "full+augmented"},
        {"selection.fraction": 0.2, "selection.every": 3, "selection.tolerance": None},
    ),
    (
        {"selection.strategy": "full"},
        {"selection.fraction": 0.2, "selection.every": 3, "selection.weights": "off", "selection.warmup_epochs": 2},
    ),
    ({"selection.fraction": None, "selection.tolerance": 1.0}, {"selection.per_class": "equal"}),
    ({"selection.every": 3}, {"selection.lag": 2}),  # blocking
    ({}, {"dataset.normalization": "data", "evaluation.metric": "accuracy"}),
    ({"dataset.name": "caltech256"}, {"dataset.clutter": True, "evaluation.metric": "balanced_accuracy"}),
    ({"model.name": "resnet18", "model.pretrained": "torchvision"}, {"dataset.normalization": "imagenet"}),
    ({"model.name": "resnet18", "model.pretrained": "a.pth"}, {"dataset.normalization": "imagenet"}),
    ({"model.pretrained": "mlp.pth"}, {"dataset.normalization": "data"}),
    *(
        ({"selection.strategy": strategy}, {"selection.mode": "overlapped", "selection.proxy_source": "harvest"})
        for strategy in ("none", "random", "full")
    ),
    ({"resources.gpus": 0}, {"resources.deterministic": False}),
]

COUNTS_ALL_THE_SAME: list[tuple[dict[str, Any], str, Any]] = [
    ({"selection.strategy": "none"}, "selection.fraction", 0.2),  # in a subset it is random, of this size
    ({"selection.strategy": "none"}, "selection.every", 2),
    ({"dataset.name": "caltech256"}, "evaluation.metric", "accuracy"),
    ({"model.name": "resnet18", "model.pretrained": "torchvision"}, "dataset.normalization", "data"),
    ({"selection.strategy": "none"}, "augmentation.weak", []),
    ({"selection.strategy": "none"}, "augmentation.evaluation", [{"name": "center_crop", "size": 8}]),
    ({"selection.strategy": "full", "training.regime": "random+augmented"}, "selection.fraction", 0.2),
    ({"selection.strategy": "full"}, "augmentation.copies", 2),
    ({"selection.strategy": "random"}, "selection.every", 2),
    ({"selection.strategy": "max_loss"}, "selection.warmup_epochs", 2),
    ({"selection.strategy": "max_loss"}, "selection.mode", "overlapped"),
    ({"selection.strategy": "max_loss", "training.regime": "full+augmented"}, "selection.proxy_source", "harvest"),
]


def trial(*changes: dict[str, Any]) -> specs.TrialSpec:
    data = copy.deepcopy(BASE)
    for name, value in (item for change in changes for item in change.items()):
        *sections, last = name.split(".")
        where: Any = data
        for section in sections:
            head, _, kind = section.partition("[")
            where = where.setdefault(head, {})
            if isinstance(where, list):
                where = next(item for item in where if item["name"] == kind.rstrip("]"))
        if isinstance(value, dict) and last == "name":
            data["training"]["schedule"] = value
        elif last == "name" and "[" in name:
            where.clear()
            where |= {"name": value, **REQUIRED.get(value, {})}
        else:
            where[last] = copy.deepcopy(value)
    return specs.TrialSpec.model_validate(data)


def fields(model: type[Section], prefix: str = "") -> Iterator[str]:
    """Every field of a trial that holds a value: `training.epochs`, `augmentation.weak[cutout].size`."""
    for name, field in model.model_fields.items():
        yield from _below(field.annotation, prefix + name)


def _below(annotation: Any, path: str) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
        yield from _below(annotation, path)
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield from fields(annotation, f"{path}.")
    elif isinstance(annotation, UnionType) and all(isinstance(kind, type) for kind in get_args(annotation)):
        kinds = [kind for kind in get_args(annotation) if issubclass(kind, Section)]
        for kind in kinds:
            (name,) = get_args(kind.model_fields["name"].annotation)
            yield from fields(kind, f"{path}[{name}].")
        if not kinds:
            yield path
    elif get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Annotated:
        item = get_args(annotation)[0]
        while get_origin(item) is Annotated:
            item = get_args(item)[0]
        if isinstance(item, UnionType):
            yield from _below(item, path)
        else:
            yield path
    else:
        yield path


def test_every_field_is_decided_upon():
    decided = [*CHANGES_THE_RESULT, *LEAVES_THE_RESULT, *LEAVES_THE_RESULT_HERE, *TIED]
    assert len(decided) == len(set(decided))
    there = [field for field in fields(specs.TrialSpec) if "weak[loss_guided]" not in field]  # refused there
    assert sorted(decided) == sorted(there), "say for each field whether it changes a result"


@pytest.mark.parametrize("field", CHANGES_THE_RESULT)
def test_a_field_that_changes_the_result_changes_the_hash(field):
    value, context = CHANGES_THE_RESULT[field]
    before, after = trial(context), trial(context, {field: value})
    assert before != after
    assert specs.spec_hash(before) != specs.spec_hash(after)
    assert (specs.cell_hash(before) == specs.cell_hash(after)) == (field == "seed")


@pytest.mark.parametrize(("field", "other"), TIED.items())
def test_fields_that_change_together_change_the_hash(field, other):
    before, after = trial(GUIDED), trial(GUIDED, {field: 2, other: 2})
    assert before != after
    assert specs.spec_hash(before) != specs.spec_hash(after)


@pytest.mark.parametrize("field", [*LEAVES_THE_RESULT, *LEAVES_THE_RESULT_HERE])
def test_a_field_that_leaves_the_result_leaves_the_hash(field):
    value, context = LEAVES_THE_RESULT_HERE.get(field) or (LEAVES_THE_RESULT[field], {})
    before, after = trial(context), trial(context, {field: value})
    assert before != after
    assert specs.spec_hash(before) == specs.spec_hash(after)
    assert specs.cell_hash(before) == specs.cell_hash(after)


@pytest.mark.parametrize(
    ("context", "field", "value"),
    [(context, field, value) for context, idle in WITHOUT_EFFECT for field, value in idle.items()],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_field_without_effect_is_left_out(context, field, value):
    assert specs.spec_hash(trial(context)) == specs.spec_hash(trial(context, {field: value}))


@pytest.mark.parametrize(("context", "field", "value"), COUNTS_ALL_THE_SAME)
def test_a_field_with_effect_is_not(context, field, value):
    assert specs.spec_hash(trial(context)) != specs.spec_hash(trial(context, {field: value}))


@pytest.mark.parametrize(
    "field",
    [
        "dataset.imbalance_factor",
        "training.optimizer.learning_rate",
        "training.optimizer.weight_decay",
        "selection.fraction",
    ],
)
def test_one_and_one_point_nought_are_one_value(field):
    assert specs.spec_hash(trial({field: 1})) == specs.spec_hash(trial({field: 1.0}))


def test_a_default_written_out_is_the_default():
    assert specs.spec_hash(trial()) == specs.spec_hash(
        trial({"training.batch_size": 128, "selection.weights": "mean_one", "selection.budget": None})
    )


def test_name_tracking_storage_and_seeds_of_a_sweep_do_not_reach_its_trials(write_spec):
    one = specs.expand(specs.load(write_spec()))
    other = specs.expand(
        specs.load(
            write_spec(
                name="other",
                description="text",
                tracking="{uri: 'http://host', experiment: e}",
                storage="{path: elsewhere}",
                seeds="[0, 1]",
                sweep="{grid: {selection.fraction: [0.1, 0.2]}, asha: {grace_epochs: 1}}",
            )
        )
    )
    assert one[0].hash == other[0].hash


def test_the_id_of_a_trial_depends_on_its_data():
    ids = {specs.trial_id(trial(), "data one"), specs.trial_id(trial(), "data two")}
    assert len(ids) == 2
    assert specs.trial_id(trial(), "data one") in ids
    assert all(len(name) == 12 and set(name) <= set("0123456789abcdef") for name in ids)


def test_of_pretrained_weights_the_content_counts_in_the_id_and_the_place_in_the_cell():
    """A sweep over two files has two cells, whatever they hold; a file that was moved has the same trials."""
    here, there = (trial({"model.pretrained": place}) for place in ("here.pth", "there.pth"))
    assert specs.cell_hash(here) != specs.cell_hash(there)
    assert specs.trial_id(here, "data", "content") == specs.trial_id(there, "data", "content")
    assert specs.trial_id(here, "data", "content") != specs.trial_id(here, "data", "other content")
    assert specs.trial_id(here, "data", "content") != specs.trial_id(trial(), "data", "content")


def test_the_three_hashes_of_a_trial_differ():
    assert len({specs.spec_hash(trial()), specs.cell_hash(trial()), specs.trial_id(trial(), "")}) == 3


def test_a_new_version_of_the_science_is_another_result(monkeypatch):
    before = specs.spec_hash(trial()), specs.cell_hash(trial()), specs.trial_id(trial(), "data")
    monkeypatch.setattr("specs.identity.SCIENCE_VERSION", specs.SCIENCE_VERSION + 1)
    after = specs.spec_hash(trial()), specs.cell_hash(trial()), specs.trial_id(trial(), "data")
    assert not set(before) & set(after)


def test_the_order_of_keys_does_not_matter_and_that_of_items_does():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


def test_the_quick_start_s_first_trial_has_the_hash_it_always_had():
    """Finished results are found by this hash: if it changed by accident, they would all be run anew."""
    first = specs.expand(specs.load("quickstart"))[0].spec
    assert (specs.spec_hash(first), specs.cell_hash(first)) == ("19525f2c1344", "daa61cd723ab")
