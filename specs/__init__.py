"""Specs of experiments and sweeps: models, loading, expansion into trials, identity."""

from specs.errors import Problem, SpecError
from specs.expansion import Trial, expand
from specs.experiment import SweepSpec, TrialSpec
from specs.identity import SCIENCE_VERSION, cell_hash, effective, spec_hash, trial_id
from specs.loading import load
from specs.schema import json_schema

__all__ = [
    "SCIENCE_VERSION",
    "Problem",
    "SpecError",
    "SweepSpec",
    "Trial",
    "TrialSpec",
    "cell_hash",
    "effective",
    "expand",
    "json_schema",
    "load",
    "spec_hash",
    "trial_id",
]
