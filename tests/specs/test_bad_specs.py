"""Every way in which the fields of a spec can be wrong: file, line, field, value and what is allowed, word for word."""

from typing import NamedTuple

import pytest
import yaml

import specs

FRACTION = "should be a number, above 0, at most 1, or null"
POSITIVE = "should be an integer, at least 1"
SEED = "should be an integer, at least 0, below 9223372036854775808"
MILESTONES = "should be a list, not empty (each an integer, at least 1)"
SCHEDULES = "should be one of constant, cosine, milestones, by name or as {name: …}"
OPERATIONS = (
    "augmix, autoaugment, center_crop, cutout, loss_guided, noise, perturb, randaugment, random_crop, random_flip, "
    "random_resized_crop, random_rotation, resize"
)
MODEL = "name, width, dropout, stem, pretrained, download"
STRATEGIES = "allowed: none, random, max_loss, coreset, full"
NO_PASSWORD = (
    "a spec is copied into results and reports, so it holds no password; set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment (PGPASSWORD for postgresql://)"
)
STORES = "allowed: sqlite:///FILE, postgresql://USER@HOST/DATABASE, http://HOST:PORT or https://HOST"
NO_FILE = "names no file; sqlite:///a/b.db is relative, sqlite:////a/b.db absolute"
TOP = (
    "allowed: dataset, model, augmentation, training, selection, evaluation, checkpoints, resources, "
    "name, description, reproduces, seeds, sweep, tracking, storage, extends"
)


class Case(NamedTuple):
    """A bad spec: the sections that differ from the good one, and its whole error."""

    sections: dict[str, str | None]
    error: list[str]
    by_schema: bool = True  # whether the JSON schema refuses it too; it knows nothing of combinations


def train(more: str) -> dict[str, str | None]:
    return {"training": f"{{regime: subset, epochs: 3, {more}}}"}


CASES = {
    # keys
    "unknown section": Case({"modle": "1"}, [f"spec.yaml:6: modle = 1: unknown key (did you mean 'model'?); {TOP}"]),
    "unknown key, two deep": Case(
        train("optimizer: {learning_rat: 1}"),
        [
            "spec.yaml:4: training.optimizer.learning_rat = 1: unknown key (did you mean 'learning_rate'?); "
            "allowed: learning_rate, momentum, nesterov, weight_decay"
        ],
    ),
    "unknown key of an operation": Case(
        {"augmentation": "{weak: [random_flip, {name: random_crop, pading: 3}]}"},
        [
            "spec.yaml:6: augmentation.weak[1].pading = 3: unknown key (did you mean 'padding'?); "
            "allowed: name, size, padding"
        ],
    ),
    "unknown key of a schedule": Case(
        train("schedule: {name: cosine, warmup: 3}"),
        [
            "spec.yaml:4: training.schedule.warmup = 3: unknown key (did you mean 'warmup_epochs'?); "
            "allowed: name, warmup_epochs"
        ],
    ),
    "unknown key of asha, and one missing": Case(
        {"sweep": "{asha: {grace: 1}}"},
        [
            "spec.yaml:6: sweep.asha.grace_epochs: missing; should be an integer, at least 1",
            "spec.yaml:6: sweep.asha.grace = 1: unknown key; allowed: metric, grace_epochs, reduction_factor",
        ],
    ),
    "unknown key of a distribution": Case(
        {"sweep": "{sample: {training.epochs: {distribution: integer, low: 1, high: 2, hihg: 3}}}"},
        [
            "spec.yaml:6: sweep.sample.training.epochs.hihg = 3: unknown key (did you mean 'high'?); "
            "allowed: distribution, low, high"
        ],
    ),
    "a field missing": Case(
        {"training": "{regime: subset}"}, ["spec.yaml:4: training.epochs: missing; should be an integer, at least 1"]
    ),
    "a section missing": Case({"model": None}, [f"spec.yaml: model: missing; should be a section with {MODEL}"]),
    # types
    "text for an integer": Case(
        {"training": "{regime: subset, epochs: ten}"}, [f"spec.yaml:4: training.epochs = 'ten': {POSITIVE}"]
    ),
    "boolean for an integer": Case(
        {"training": "{regime: subset, epochs: true}"}, [f"spec.yaml:4: training.epochs = true: {POSITIVE}"]
    ),
    "fractional for an integer": Case(
        {"training": "{regime: subset, epochs: 3.5}"}, [f"spec.yaml:4: training.epochs = 3.5: {POSITIVE}"]
    ),
    "zero epochs": Case({"training": "{regime: subset, epochs: 0}"}, [f"spec.yaml:4: training.epochs = 0: {POSITIVE}"]),
    "integer for a boolean": Case(
        {"dataset": "{name: digits, download: 1}"}, ["spec.yaml:2: dataset.download = 1: should be true or false"]
    ),
    "number for text": Case({"description": "5"}, ["spec.yaml:6: description = 5: should be text"]),
    "null for a section": Case(
        {"augmentation": "null"},
        ["spec.yaml:6: augmentation = null: should be a section with weak, strong, evaluation, copies, placement"],
    ),
    "list for a section": Case(
        {"model": "[mlp]"},
        [
            f"spec.yaml:3: model = ['mlp']: should be a section with {MODEL}; to vary it, list the values under "
            "sweep.grid.model"
        ],
    ),
    "number for a list": Case(
        {"seeds": "1"}, [f"spec.yaml:6: seeds = 1: should be a list, not empty (each {SEED[10:]}), such as [0, 1, 2]"]
    ),
    "a list for a mapping": Case({"sweep": "{grid: []}"}, ["spec.yaml:6: sweep.grid = []: should be a mapping"]),
    "long value": Case(
        {"description": f"[{', '.join(map(str, range(100)))}]"},
        ["spec.yaml:6: description = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...: should be text"],
    ),
    # numbers
    **{
        f"fraction {text}": Case(
            {"selection": f"{{fraction: {text}}}"},
            [f"spec.yaml:5: selection.fraction = {shown}: {FRACTION}"],
            by_schema,
        )
        for text, shown, by_schema in (
            ("0", "0", True),
            ("0.0", "0.0", True),
            ("-0.5", "-0.5", True),
            ("1.0001", "1.0001", True),
            (".nan", "nan", False),  # JSON has no such number
            (".inf", "inf", True),
            ("-.inf", "-inf", True),
            ("1e400", "inf", True),
            ("true", "true", True),
            ("'0.1'", "'0.1'", True),
        )
    },
    "fraction [0.1]": Case(
        {"selection": "{fraction: [0.1]}"},
        [
            f"spec.yaml:5: selection.fraction = [0.1]: {FRACTION}; to vary it, list the values under "
            "sweep.grid.selection.fraction"
        ],
    ),
    "lag 0": Case({"selection": "{fraction: 0.1, lag: 0}"}, [f"spec.yaml:5: selection.lag = 0: {POSITIVE}"]),
    "mode": Case(
        {"selection": "{fraction: 0.1, mode: overlap}"},
        [
            "spec.yaml:5: selection.mode = 'overlap': not allowed (did you mean 'overlapped'?); "
            "allowed: blocking, overlapped"
        ],
    ),
    "source of proxies": Case(
        {"selection": "{fraction: 0.1, proxy_source: havrest}"},
        [
            "spec.yaml:5: selection.proxy_source = 'havrest': not allowed (did you mean 'harvest'?); "
            "allowed: forward, harvest"
        ],
    ),
    "budget 0": Case({"selection": "{budget: 0}"}, [f"spec.yaml:5: selection.budget = 0: {POSITIVE}, or null"]),
    "name of a sweep": Case(
        {"name": "My Sweep"}, ["spec.yaml:1: name = 'My Sweep': should be text, matching ^[a-z0-9][a-z0-9_.-]{0,62}$"]
    ),
    # seeds
    "no seed": Case(
        {"seeds": "[]"}, [f"spec.yaml:6: seeds = []: should be a list, not empty (each {SEED[10:]}), such as [0, 1, 2]"]
    ),
    "seeds out of range": Case(
        {"seeds": "[0, -1, 9223372036854775808]"},
        [f"spec.yaml:6: seeds[1] = -1: {SEED}", f"spec.yaml:6: seeds[2] = 9223372036854775808: {SEED}"],
    ),
    "a seed that is true": Case({"seeds": "[true]"}, [f"spec.yaml:6: seeds[0] = true: {SEED}"]),
    "a seed twice": Case(
        {"seeds": "[3, 0, 3]"},
        ["spec.yaml:6: seeds = [3, 0, 3]: each seed must stand here once; 3 stands more often"],
        by_schema=False,
    ),
    "all labels wrong": Case(
        {"dataset": "{name: digits, label_noise: 1}"},
        ["spec.yaml:2: dataset.label_noise = 1: should be a number, at least 0, below 1"],
    ),
    "an imbalance below 1": Case(
        {"dataset": "{name: digits, imbalance_factor: 0.5}"},
        ["spec.yaml:2: dataset.imbalance_factor = 0.5: should be a number, at least 1"],
    ),
    "an image size beyond what is read": Case(
        {"dataset": "{name: imagenet, root: data, image_size: 2000}"},
        ["spec.yaml:2: dataset.image_size = 2000: should be an integer, at least 4, at most 1024, or null"],
    ),
    "dropout of everything": Case(
        {"model": "{name: wrn28_10, dropout: 1.0}"},
        ["spec.yaml:3: model.dropout = 1.0: should be a number, at least 0, below 1"],
    ),
    "pretrained weights that are a flag": Case(
        {"model": "{name: resnet18, pretrained: true}"},
        ["spec.yaml:3: model.pretrained = true: should be text, not empty, or null"],
    ),
    "no place of pretrained weights": Case(
        {"model": "{name: resnet18, pretrained: ''}"},
        ["spec.yaml:3: model.pretrained = '': should be text, not empty, or null"],
    ),
    "stem": Case(
        {"model": "{name: resnet18, stem: smal}"},
        ["spec.yaml:3: model.stem = 'smal': not allowed (did you mean 'small'?); allowed: standard, small"],
    ),
    "metric": Case(
        {"evaluation": "{metric: balanced}"},
        [
            "spec.yaml:6: evaluation.metric = 'balanced': not allowed (did you mean 'balanced_accuracy'?); "
            "allowed: accuracy, balanced_accuracy"
        ],
    ),
    "graphs without a GPU": Case(
        {"resources": "{cuda_graphs: true}"},
        ["spec.yaml:6: resources.cuda_graphs = true: needs gpus: 1 and workers: 1; leave cuda_graphs out otherwise"],
        by_schema=False,
    ),
    "loaders below 0": Case(
        {"resources": "{loaders: -1}"},
        ["spec.yaml:6: resources.loaders = -1: should be an integer, at least 0, or null"],
    ),
    # choices
    "strategy": Case(
        {"selection": "{strategy: corset, fraction: 0.1}"},
        [f"spec.yaml:5: selection.strategy = 'corset': not allowed (did you mean 'coreset'?); {STRATEGIES}"],
    ),
    "model": Case(
        {"model": "{name: resnet21}"},
        [
            "spec.yaml:3: model.name = 'resnet21': no model of this name (did you mean 'resnet32'?); "
            "allowed: mlp, small_cnn, resnet8, resnet20, resnet32, wrn28_10, "
            "or a torchvision classifier such as resnet18"
        ],
    ),
    "dataset": Case(
        {"dataset": "{name: cifar-10}"},
        [
            "spec.yaml:2: dataset.name = 'cifar-10': not allowed (did you mean 'cifar10'?); "
            "allowed: digits, image_folder, mnist, cifar10, svhn, caltech256, tiny_imagenet, imagenet"
        ],
    ),
    "operation": Case(
        {"augmentation": "{strong: [cut_out]}"},
        [
            "spec.yaml:6: augmentation.strong[0].name = 'cut_out': not allowed (did you mean 'cutout'?); "
            f"allowed: {OPERATIONS}"
        ],
    ),
    "operation without a name": Case(
        {"augmentation": "{strong: [{size: 3}]}"},
        [f"spec.yaml:6: augmentation.strong[0]: should be one of {OPERATIONS}, by name or as {{name: …}}"],
    ),
    "policy": Case(
        {"augmentation": "{strong: [{name: autoaugment, policy: caltech256}]}"},
        [
            "spec.yaml:6: augmentation.strong[0].policy = 'caltech256': not allowed; allowed: cifar10, svhn, imagenet",
        ],
    ),
    "random operation on test images": Case(
        {"augmentation": "{evaluation: [{name: random_crop, size: 8}, center_crop]}"},
        [
            "spec.yaml:6: augmentation.evaluation[0].name = 'random_crop': not allowed; allowed: center_crop, resize",
            "spec.yaml:6: augmentation.evaluation[1].size: missing; should be an integer, at least 1, at most 1024",
        ],
    ),
    "ranges": Case(
        {
            "augmentation": "{weak: [{name: random_resized_crop, size: 8, scale: [0.5, 1.5], ratio: [1]}, "
            "{name: perturb, sigma: [0, 1]}]}"
        },
        [
            "spec.yaml:6: augmentation.weak[0].scale[1] = 1.5: should be a number, above 0, at most 1",
            "spec.yaml:6: augmentation.weak[0].ratio = [1]: should be a list of 2 (each a number, above 0)",
            "spec.yaml:6: augmentation.weak[1].sigma[0] = 0: should be a number, above 0",
        ],
    ),
    "operations with options that do not work": Case(
        {
            "augmentation": "{weak: [{name: random_crop, padding: 0}, {name: random_resized_crop, size: 8, "
            "scale: [1, 0.5], ratio: [2, 1]}], strong: [{name: augmix, depth: 0}, {name: perturb, kernel: 4}, "
            "{name: loss_guided, candidates: 3, kept: 4}]}"
        },
        [
            "spec.yaml:6: augmentation.weak[0].padding = 0: a crop without padding needs a size: set size, or leave "
            "the operation out",
            "spec.yaml:6: augmentation.weak[1].scale = [1, 0.5]: the first bound should be at most the second; "
            "got 1 and 0.5",
            "spec.yaml:6: augmentation.weak[1].ratio = [2, 1]: the first bound should be at most the second; "
            "got 2 and 1",
            "spec.yaml:6: augmentation.strong[0].depth = 0: a chain needs an operation: should be -1, or at least 1",
            "spec.yaml:6: augmentation.strong[1].kernel = 4: a kernel has a middle pixel: should be odd, 3 or 5",
            "spec.yaml:6: augmentation.strong[2].kept = 4: should be at most candidates, 3",
        ],
        by_schema=False,
    ),
    "schedule": Case(
        train("schedule: cosin"),
        [
            "spec.yaml:4: training.schedule.name = 'cosin': not allowed (did you mean 'cosine'?); "
            "allowed: constant, cosine, milestones"
        ],
    ),
    "schedule that is a number": Case(train("schedule: 5"), [f"spec.yaml:4: training.schedule = 5: {SCHEDULES}"]),
    # schedule and optimiser
    "milestones by name alone": Case(
        train("schedule: milestones"), [f"spec.yaml:4: training.schedule.milestones: missing; {MILESTONES}"]
    ),
    "milestones descend, gamma too large": Case(
        train("schedule: {name: milestones, milestones: [2, 1], gamma: 2}"),
        [
            "spec.yaml:4: training.schedule.milestones = [2, 1]: milestones must ascend, without repeats",
            "spec.yaml:4: training.schedule.gamma = 2: should be a number, above 0, at most 1",
        ],
    ),
    "milestones repeat": Case(
        train("schedule: {name: milestones, milestones: [2, 2]}"),
        ["spec.yaml:4: training.schedule.milestones = [2, 2]: milestones must ascend, without repeats"],
        by_schema=False,
    ),
    "milestones empty": Case(
        train("schedule: {name: milestones, milestones: []}"),
        [f"spec.yaml:4: training.schedule.milestones = []: {MILESTONES}"],
    ),
    "milestones of wrong kinds": Case(
        train("schedule: {name: milestones, milestones: [0, x]}"),
        [
            f"spec.yaml:4: training.schedule.milestones[0] = 0: {POSITIVE}",
            f"spec.yaml:4: training.schedule.milestones[1] = 'x': {POSITIVE}",
        ],
    ),
    "nesterov without momentum": Case(
        train("optimizer: {momentum: 0, nesterov: true}"),
        [
            "spec.yaml:4: training.optimizer.nesterov = true: nesterov needs momentum above 0: "
            "set momentum, or nesterov: false"
        ],
        by_schema=False,
    ),
    # combinations
    **{
        label: Case(sections, [f"spec.yaml:{error}"], by_schema=False)
        for label, sections, error in (
            (
                "fraction and budget",
                {"selection": "{fraction: 0.1, budget: 10}"},
                "5: selection.budget = 10: fraction and budget are set; keep one of them",
            ),
            (
                "no size",
                {"selection": "{strategy: random}"},
                "5: selection.fraction: strategy random in regime subset needs one of fraction, budget",
            ),
            (
                "tolerance of a random set",
                {"selection": "{strategy: random, tolerance: 1.5}"},
                "5: selection.tolerance = 1.5: only strategy coreset takes a tolerance; "
                "random needs fraction or budget",
            ),
            (
                "tolerance beside a random subset",
                {"selection": "{tolerance: 1.5}", "training": "{regime: random+augmented, epochs: 3}"},
                "5: selection.tolerance = 1.5: regime random+augmented needs fraction or budget: "
                "its main set has k examples",
            ),
            (
                "tolerance and warm-up",
                {"selection": "{tolerance: 1.5, warmup_epochs: 2}"},
                "5: selection.warmup_epochs = 2: warm-up draws k examples at random; "
                "use fraction or budget, or no warm-up",
            ),
            (
                "warm-up to the end",
                {"selection": "{fraction: 0.1, warmup_epochs: 3}"},
                "5: selection.warmup_epochs = 3: must be below training.epochs, 3",
            ),
            (
                "a lag beyond the next selection",
                {"selection": "{fraction: 0.1, every: 2, lag: 3, mode: overlapped}"},
                "5: selection.lag = 3: should be at most selection.every, 2: "
                "a selection is used before the next is asked for",
            ),
            (
                "a lag beyond the next selection, though nothing overlaps",
                {"selection": "{fraction: 0.1, lag: 2}"},
                "5: selection.lag = 2: should be at most selection.every, 1: "
                "a selection is used before the next is asked for",
            ),
            (
                "warm-up and lag to the end",
                {"selection": "{fraction: 0.1, every: 2, lag: 2, mode: overlapped, warmup_epochs: 1}"},
                "5: selection.lag = 2: the first selection, asked for after warmup_epochs = 1, would be used after "
                "epoch 3; training has 3",
            ),
            (
                "harvest of a subset",
                {"selection": "{fraction: 0.1, proxy_source: harvest}"},
                "5: selection.proxy_source = 'harvest': harvest needs the original of every example in every epoch: "
                "regime full+augmented, placement append; regime subset leaves some out",
            ),
            (
                "harvest beside a random main set",
                {
                    "selection": "{fraction: 0.1, strategy: max_loss, proxy_source: harvest}",
                    "training": "{regime: random+augmented, epochs: 3}",
                },
                "5: selection.proxy_source = 'harvest': harvest needs the original of every example in every epoch: "
                "regime full+augmented, placement append; regime random+augmented leaves some out",
            ),
            (
                "harvest in place",
                {
                    "selection": "{fraction: 0.1, proxy_source: harvest}",
                    "training": "{regime: full+augmented, epochs: 3}",
                    "augmentation": "{placement: in_place, strong: [cutout]}",
                },
                "5: selection.proxy_source = 'harvest': harvest needs the original of every example in every epoch: "
                "regime full+augmented, placement append; placement in_place replaces those of S by copies",
            ),
            (
                "root of digits",
                {"dataset": "{name: digits, root: data}"},
                "2: dataset.root = 'data': digits are shipped with medoid; leave root out",
            ),
            (
                "root missing",
                {"dataset": "{name: mnist}"},
                "2: dataset.root: dataset mnist needs the folder that holds it",
            ),
            (
                "download of a folder",
                {"dataset": "{name: image_folder, root: data, download: true}"},
                "2: dataset.download = true: image_folder cannot be downloaded; leave download out",
            ),
            (
                "in place of nothing",
                {"training": "{regime: full+augmented, epochs: 3}", "augmentation": "{placement: in_place}"},
                "6: augmentation.strong = []: placement in_place without a strong operation changes nothing in regime "
                "full+augmented; name at least one",
            ),
            (
                "copies that loss_guided does not make",
                {"augmentation": "{strong: [{name: loss_guided, candidates: 8, kept: 4}]}"},
                "6: augmentation.copies = 1: the copies are what loss_guided keeps: should be its `kept`, 4 "
                "(of 8 candidates)",
            ),
            (
                "loss_guided and more",
                {"augmentation": "{strong: [loss_guided, cutout]}"},
                "6: augmentation.strong = [{'name': 'loss_guided', 'operations': 2, 'candidates': 4...: "
                "loss_guided composes operations of its own; it must stand alone",
            ),
            (
                "loss_guided on every image",
                {"augmentation": "{weak: [loss_guided]}"},
                "6: augmentation.weak = [{'name': 'loss_guided', 'operations': 2, 'candidates': 4...: "
                "loss_guided makes copies: name it under strong",
            ),
            (
                "checkpoint after the end",
                {"checkpoints": "{keep: [1, 4]}"},
                "6: checkpoints.keep = [1, 4]: training ends after epoch 3; [4] would never be reached",
            ),
            (
                "download of Caltech256",
                {"dataset": "{name: caltech256, root: data, download: true}"},
                "2: dataset.download = true: caltech256 cannot be downloaded; leave download out",
            ),
            (
                "large images of a set in memory",
                {"dataset": "{name: cifar10, root: data, image_size: 224}"},
                "2: dataset.image_size = 224: cifar10 stays in memory; should be at most 64",
            ),
            (
                "clutter of SVHN",
                {"dataset": "{name: svhn, root: data, clutter: false}"},
                "2: dataset.clutter = false: only caltech256 has such a class; svhn has not",
            ),
            (
                "dropout of a ResNet",
                {"model": "{name: resnet18, dropout: 0.3}"},
                "3: model.dropout = 0.3: only wrn28_10 takes it; resnet18 does not",
            ),
            (
                "stem of a CIFAR ResNet",
                {"model": "{name: resnet20, stem: small}"},
                "3: model.stem = 'small': only torchvision's ResNets have a small one; resnet20 has not",
            ),
            (
                "published weights of a CIFAR ResNet",
                {"model": "{name: resnet20, pretrained: torchvision}"},
                "3: model.pretrained = 'torchvision': torchvision has no weights of resnet20; name a file",
            ),
            (
                "download of a file",
                {"model": "{name: resnet18, pretrained: a.pth, download: true}"},
                "3: model.download = true: only torchvision's weights can be downloaded: set pretrained: torchvision",
            ),
            (
                "width of a ResNet",
                {"model": "{name: resnet8, width: 3}"},
                "3: model.width = 3: only mlp and small_cnn have a width; resnet8 has not",
            ),
        )
    },
    # axes
    "zip of unequal length": Case(
        {"sweep": "{zip: {training.epochs: [1, 2], training.batch_size: [3]}}"},
        ["spec.yaml:6: sweep.zip: lists of zip must have one length; got training.epochs 2, training.batch_size 1"],
        by_schema=False,
    ),
    "empty axis": Case(
        {"sweep": "{grid: {training.epochs: []}}"},
        ["spec.yaml:6: sweep.grid.training.epochs: needs at least one value"],
        by_schema=False,
    ),
    "axis that is no list": Case(
        {"sweep": "{grid: {training.epochs: 1}}"}, ["spec.yaml:6: sweep.grid.training.epochs = 1: should be a list"]
    ),
    "fields that cannot be swept": Case(
        {"sweep": "{grid: {training.epoch: [1], seed: [1], storage.path: [a]}}"},
        [
            "spec.yaml:6: sweep.grid.training.epoch: no field that can be swept (did you mean 'training.epochs'?)",
            "spec.yaml:6: sweep.grid.seed: repeat a sweep with `seeds: [0, 1, …]` instead",
            "spec.yaml:6: sweep.grid.storage.path: no field that can be swept",
        ],
    ),
    "field swept twice": Case(
        {"sweep": "{grid: {training.epochs: [1]}, zip: {training.epochs: [2]}}"},
        ["spec.yaml:6: sweep.zip.training.epochs: also stands in sweep.grid"],
        by_schema=False,
    ),
    "part of a swept section": Case(
        {"sweep": "{grid: {selection: [{fraction: 0.1}]}, zip: {selection.every: [1]}}"},
        ["spec.yaml:6: sweep.zip.selection.every: lies inside selection, which is swept too"],
        by_schema=False,
    ),
    "values of axes, each on its line": Case(
        {
            "sweep": "\n  grid:\n    selection.every: [1, true]\n    selection.fraction:\n      - 0.1\n      - 1.5\n"
            "  sample:\n    training.epochs: {distribution: uniform, low: 1.5, high: 1.75}"
        },
        [
            f"spec.yaml:8: selection.every = true: {POSITIVE}",
            f"spec.yaml:11: selection.fraction = 1.5: {FRACTION}",
            f"spec.yaml:13: training.epochs = 1.711105462881262: {POSITIVE}",
        ],
        by_schema=False,
    ),
    "section swept, wrong inside": Case(
        {"sweep": "{grid: {training.schedule: [cosine, {name: milestones, milestones: [3, 2]}]}}"},
        ["spec.yaml:6: training.schedule.milestones = [3, 2]: milestones must ascend, without repeats"],
        by_schema=False,
    ),
    "distributions": Case(
        {
            "sweep": "{sample: {training.epochs: {distribution: uniform, low: 2, high: 1}, "
            "training.batch_size: {distribution: integer, low: 0.5, high: 2}, "
            "selection.fraction: {distribution: log_uniform, low: 0, high: 1}}}"
        },
        [
            "spec.yaml:6: sweep.sample.training.epochs: low must be below high; got 2 and 1",
            "spec.yaml:6: sweep.sample.training.batch_size: integer needs whole bounds; got 0.5 and 2",
            "spec.yaml:6: sweep.sample.selection.fraction: log_uniform needs low above 0; got 0",
        ],
        by_schema=False,
    ),
    "draws of nothing": Case(
        {"sweep": "{samples: 4}"},
        [
            "spec.yaml:6: sweep.samples = 4: there is nothing to draw: name a field under sweep.sample, "
            "or leave samples out"
        ],
        by_schema=False,
    ),
    # places
    "storage that is neither a folder nor in S3": Case(
        {"storage": "{path: 'gs://bucket/runs'}"},
        [
            "spec.yaml:6: storage.path = 'gs://bucket/runs': should be a folder, or s3://bucket/prefix; "
            "no other kind of URI is known"
        ],
        by_schema=False,
    ),
    "a bucket that cannot be": Case(
        {"storage": "{path: 's3://My_Bucket/runs'}"},
        [
            "spec.yaml:6: storage.path = 's3://My_Bucket/runs': 'My_Bucket' is no bucket's name: three to 63 "
            "lower-case letters, digits, '-' and '.', as in s3://bucket/prefix"
        ],
        by_schema=False,
    ),
    "a prefix that leads elsewhere": Case(
        {"storage": "{path: 's3://bucket/../other'}"},
        [
            "spec.yaml:6: storage.path = 's3://bucket/../other': '../other' is no prefix: names joined by '/', "
            "without '.', '..', '?' and '#'"
        ],
        by_schema=False,
    ),
    "a server for a folder": Case(
        {"storage": "{path: runs, endpoint: 'http://minio:9000'}"},
        [
            "spec.yaml:6: storage.endpoint = 'http://minio:9000': only storage in S3 has a server: set path to "
            "s3://bucket/prefix, or leave endpoint out"
        ],
        by_schema=False,
    ),
    "a server that is no URL": Case(
        {"dataset": "{name: mnist, root: 's3://bucket/mnist', endpoint: 'minio:9000'}"},
        [
            "spec.yaml:2: dataset.endpoint = 'minio:9000': should be the URL of an S3 server: "
            "http://HOST:PORT or https://HOST"
        ],
        by_schema=False,
    ),
    "data in S3 that are to be downloaded": Case(
        {"dataset": "{name: mnist, root: 's3://bucket/mnist', download: true}"},
        ["spec.yaml:2: dataset.download = true: torchvision downloads into a folder only; root is s3://bucket/mnist"],
        by_schema=False,
    ),
    # all at once
    "typos, values and combinations": Case(
        {
            "dataset": "{name: mnist}",
            "model": "{name: rsnet8}",
            "selection": "{fraction: 0.1, budget: 3, objectve: rbf}",
            "trainig": "{}",
        },
        [
            "spec.yaml:2: dataset.root: dataset mnist needs the folder that holds it",
            "spec.yaml:3: model.name = 'rsnet8': no model of this name (did you mean 'resnet8'?); "
            "allowed: mlp, small_cnn, resnet8, resnet20, resnet32, wrn28_10, "
            "or a torchvision classifier such as resnet18",
            "spec.yaml:5: selection.objectve = 'rbf': unknown key (did you mean 'objective'?); allowed: strategy, "
            "fraction, budget, tolerance, every, warmup_epochs, mode, lag, objective, solver, "
            "epsilon, partitions, alpha, sample, proxy, proxy_source, "
            "per_class, weights",
            "spec.yaml:5: selection.budget = 3: fraction and budget are set; keep one of them",
            f"spec.yaml:6: trainig: unknown key (did you mean 'training'?); {TOP}",
        ],
    ),
    "a broken section says nothing of what depends on it": Case(
        {
            "dataset": "{name: mnist}",
            "selection": "{fraction: 2, budget: 3}",
            "checkpoints": "{keep: [9]}",
        },
        [
            "spec.yaml:2: dataset.root: dataset mnist needs the folder that holds it",
            f"spec.yaml:5: selection.fraction = 2: {FRACTION}",
        ],
    ),
    **{
        f"tracking.uri {uri}": Case(
            {"tracking": f"{{uri: '{uri}'}}"}, [f"spec.yaml:6: tracking.uri = '{uri}': {said}"], by_schema=False
        )
        for uri, said in (
            ("mlruns", f"not a store medoid can use; {STORES}"),
            ("file:///tmp/mlruns", f"not a store medoid can use; {STORES}"),
            ("sqlite://", NO_FILE),
            ("sqlite:///", NO_FILE),
            ("sqlite://relative.db", NO_FILE),
            ("http://", f"names no host; {STORES}"),
            ("http://host:port", f"Port could not be cast to integer value as 'port'; {STORES}"),
        )
    },
    "a swept field beside the axes": Case(
        {"sweep": "{selection.strategy: [random, coreset]}"},
        [
            "spec.yaml:6: sweep.selection.strategy = ['random', 'coreset']: unknown key; a field to vary stands under "
            "sweep.grid: sweep.grid.selection.strategy"
        ],
    ),
    "values to vary where one is meant": Case(
        {"selection": "{strategy: [random, coreset], fraction: 0.1}"},
        [
            f"spec.yaml:5: selection.strategy = ['random', 'coreset']: not allowed; {STRATEGIES}; to vary it, list the "
            "values under sweep.grid.selection.strategy"
        ],
    ),
    "more trials than a sweep holds": Case(
        {"sweep": "{sample: {training.epochs: {distribution: integer, low: 1, high: 9}}, samples: 1000000000}"},
        [
            "spec.yaml:6: sweep: makes 1,000,000,000 trials; should be at most 100,000: write several specs",
        ],
        by_schema=False,
    ),
    "a password": Case(
        {"tracking": "{uri: 'https://me:p@ss/w0rd:1@mlflow.example/' }"},
        [f"spec.yaml:6: tracking.uri = 'https://me:***@mlflow.example/': {NO_PASSWORD}"],
        by_schema=False,
    ),
    "a password that is cut off with a long value": Case(
        {"tracking": f"{{uri: 'postgresql://me:{'s3cret' * 12}@db.example/runs'}}"},
        [f"spec.yaml:6: tracking.uri = 'postgresql://me:***@db.example/runs': {NO_PASSWORD}"],
        by_schema=False,
    ),
    "a password among the options of a URI": Case(
        {"tracking": "{uri: 'postgresql://db.example/runs?user=me&password=s3cret&sslmode=require'}"},
        [f"spec.yaml:6: tracking.uri = 'postgresql://db.example/runs?user=me&password=***&sslmod...: {NO_PASSWORD}"],
        by_schema=False,
    ),
    "fields and axes": Case(
        {"training": "{regime: subset, epochs: x}", "sweep": "{grid: {selection.solvr: [exact]}}"},
        [
            f"spec.yaml:4: training.epochs = 'x': {POSITIVE}",
            "spec.yaml:6: sweep.grid.selection.solvr: no field that can be swept (did you mean 'selection.solver'?)",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_bad_spec_is_refused_with_everything_that_is_wrong(case, write_spec, complaints):
    assert complaints(write_spec(**case.sections)) == case.error


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_json_schema_refuses_what_a_schema_can_see(case, validator, write_spec):
    data = yaml.safe_load(write_spec(**case.sections).read_text().replace("1e400", ".inf"))
    assert validator.is_valid(data) != case.by_schema


def test_problems_can_be_read_one_by_one(write_spec):
    with pytest.raises(specs.SpecError) as caught:
        specs.load(write_spec(selection="{fraction: 0}"))
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.path, problem.value) == ("spec.yaml", 5, "selection.fraction", 0)


def test_an_error_at_some_points_of_a_sweep_names_the_first(write_spec, complaints):
    spec = write_spec(
        selection="{fraction: 0.1, warmup_epochs: 5}",
        sweep="{grid: {selection.strategy: [random, max_loss, coreset]}}",
    )
    assert complaints(spec) == [
        "spec.yaml:5: selection.warmup_epochs = 5: must be below training.epochs, 3 (at strategy='max_loss' and 1 more)"
    ]


def test_a_password_on_the_command_line_is_not_repeated(write_spec):
    with pytest.raises(specs.SpecError) as caught:
        specs.load(write_spec(), ["tracking.uri=http://me:s3cret@host", "trackng.uri=http://me:s3cret@host"])
    assert "--set tracking.uri=http://me:***@host: tracking.uri = 'http://me:***@host': a spec" in str(caught.value)
    assert "s3cret" not in str(caught.value)
