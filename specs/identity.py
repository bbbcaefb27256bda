"""What makes two trials the same: hashes of everything that changes a result, and of nothing else."""

import hashlib
import json
from typing import Any

from specs.experiment import TrialSpec

# Raised whenever the same spec gives other numbers than before; old results are then run anew.
SCIENCE_VERSION = 4


def effective(trial: TrialSpec) -> dict[str, Any]:
    """The part of a trial that changes its result, as plain data.

    Left out are where data and results lie, what is recorded on the way, and every field without effect:
    the objective of a random subset, the fraction of the whole, the copies of nothing.
    """
    data = trial.model_dump(mode="json", exclude={"evaluation", "checkpoints", "resources"})
    data["dataset"] = _effective_dataset(trial)
    data["model"] = _effective_model(trial)
    if trial.metric() != "accuracy":
        data["metric"] = trial.metric()
    resources = trial.resources
    data["machine"] = {
        "device": "cuda" if resources.gpus else "cpu",
        "workers": resources.workers,
        "threads": resources.cpus,
    }
    if resources.gpus:
        data["machine"]["deterministic"] = resources.deterministic
    if trial.selection.strategy == "none":
        data["augmentation"] = {name: data["augmentation"][name] for name in ("weak", "evaluation")}
    data["selection"] = _effective_selection(trial)
    return data


# Fields that came after the first results are left out at their defaults: those are still the results of their specs.


def _effective_dataset(trial: TrialSpec) -> dict[str, Any]:
    kept = trial.dataset.model_dump(mode="json", exclude={"root", "endpoint", "download", "clutter", "normalization"})
    if trial.dataset.name == "caltech256":
        kept["clutter"] = trial.dataset.clutter
    if trial.normalization() != "data":
        kept["normalization"] = trial.normalization()
    return kept


def _effective_model(trial: TrialSpec) -> dict[str, Any]:
    kept = trial.model.model_dump(mode="json", include={"name", "width"})
    defaults = {"dropout": 0.0, "stem": "standard", "pretrained": None}
    given = trial.model.model_dump(mode="json", include=set(defaults))
    return kept | {field: value for field, value in given.items() if value != defaults[field]}


def _effective_selection(trial: TrialSpec) -> dict[str, Any]:
    chosen = trial.selection
    kept: dict[str, Any] = {"strategy": chosen.strategy}
    if trial.needs_size():
        for field in ("fraction", "budget", "tolerance", "every"):
            if getattr(chosen, field) is not None:
                kept[field] = getattr(chosen, field)
    if trial.by_proxies():
        kept["warmup_epochs"] = chosen.warmup_epochs
    if trial.overlapped():
        kept |= {"mode": chosen.mode, "lag": chosen.lag}
    if trial.harvests():
        kept["proxy_source"] = chosen.proxy_source
    if chosen.strategy == "coreset":
        for field in ("objective", "proxy", "weights"):
            kept[field] = getattr(chosen, field)
        kept["solver"] = "exact"  # lazy picks are the same
        if chosen.solver == "stochastic":
            kept |= {"solver": chosen.solver, "epsilon": chosen.epsilon}
        if chosen.partitions > 1:
            kept |= {"partitions": chosen.partitions, "alpha": chosen.alpha, "sample": chosen.sample}
        if chosen.tolerance is None:
            kept["per_class"] = chosen.per_class
    return kept


def always_counts(field: str) -> bool:
    """Whether a dotted field is part of every trial's hash, whatever else its spec says. False: it may be, or not."""
    without_effect = ("root", "endpoint", "download", "clutter", "normalization")
    section, _, rest = field.partition(".")
    return section == "training" or (section == "dataset" and rest not in ("", *without_effect))


def digest(data: Any) -> str:
    """First 12 hexadecimal digits of the SHA-256 of data as canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def spec_hash(trial: TrialSpec) -> str:
    """Hash of a trial as far as its spec goes; `trial_id` adds the data."""
    return digest({"science": SCIENCE_VERSION, "spec": effective(trial)})


def cell_hash(trial: TrialSpec) -> str:
    """Hash of a trial without its seed: results that share it are repeats, and are averaged."""
    data = effective(trial)
    del data["seed"]
    return digest({"science": SCIENCE_VERSION, "spec": data})


def trial_id(trial: TrialSpec, data_fingerprint: str, weights_fingerprint: str = "") -> str:
    """A trial's id and the name of its folder: a function of the spec, the data and the kind of machine.

    Of pretrained weights it is their content that counts, wherever they lie.
    """
    data = effective(trial)
    if trial.model.pretrained is not None:
        data["model"]["pretrained"] = weights_fingerprint
    return digest({"science": SCIENCE_VERSION, "spec": data, "data": data_fingerprint})
