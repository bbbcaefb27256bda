"""From a sweep to its trials: how many, in which order, and which of them are one."""

import math

import pytest

import specs


def expand(write_spec, **sections):
    return specs.expand(specs.load(write_spec(**sections)))


def test_a_spec_without_axes_is_one_trial_a_seed(write_spec):
    trials = expand(write_spec, seeds="[4, 2]")
    assert [(trial.spec.seed, trial.point) for trial in trials] == [(4, {}), (2, {})]


def test_trials_are_grid_by_zip_by_sample_by_seeds_in_that_order(write_spec):
    trials = expand(
        write_spec,
        seeds="[0, 1]",
        sweep="{grid: {selection.strategy: [random, coreset], selection.fraction: [0.1, 0.2, 0.3]}, "
        "zip: {training.epochs: [3, 4], training.batch_size: [30, 40]}, "
        "sample: {training.optimizer.learning_rate: {distribution: uniform, low: 0.1, high: 0.2}}, samples: 2}",
    )
    rows = [
        (
            trial.spec.selection.strategy,
            trial.spec.selection.fraction,
            trial.spec.training.epochs,
            trial.spec.training.batch_size,
            trial.spec.training.optimizer.learning_rate,
            trial.spec.seed,
        )
        for trial in trials
    ]
    first, second = rows[0][4], rows[2][4]
    assert first != second
    assert rows == [
        (strategy, fraction, epochs, 10 * epochs, rate, seed)
        for strategy in ("random", "coreset")
        for fraction in (0.1, 0.2, 0.3)
        for epochs in (3, 4)
        for rate in (first, second)
        for seed in (0, 1)
    ]


def test_a_point_holds_the_swept_fields_alone(write_spec):
    (trial,) = expand(write_spec, sweep="{grid: {selection.fraction: [0.2]}, zip: {training.epochs: [4]}}")
    assert trial.point == {"selection.fraction": 0.2, "training.epochs": 4}


def test_whole_sections_and_lists_can_be_swept(write_spec):
    trials = expand(
        write_spec,
        sweep="{grid: {training.schedule: [constant, {name: milestones, milestones: [2]}], "
        "augmentation.strong: [[cutout], []]}}",
    )
    assert [
        (trial.spec.training.schedule.name, [step.name for step in trial.spec.augmentation.strong]) for trial in trials
    ] == [("constant", ["cutout"]), ("constant", []), ("milestones", ["cutout"]), ("milestones", [])]


def test_an_option_of_the_default_schedule_can_be_swept(write_spec):
    trials = expand(write_spec, sweep="{grid: {training.schedule.warmup_epochs: [0, 2]}}")
    assert [trial.spec.training.schedule.model_dump() for trial in trials] == [
        {"name": "cosine", "warmup_epochs": epochs} for epochs in (0, 2)
    ]


def test_null_can_be_swept(write_spec):
    trials = expand(write_spec, sweep="{zip: {selection.fraction: [0.1, null], selection.budget: [null, 20]}}")
    assert [trial.size() for trial in trials] == ["10%", "20"]


# Sampling

SAMPLE = (
    "{{sample: {{training.optimizer.learning_rate: {{distribution: log_uniform, low: 1e-3, high: 1e-1}}, "
    "training.batch_size: {{distribution: integer, low: 2, high: 4}}}}, samples: 40, sample_seed: {seed}}}"
)


def draws(write_spec, seed):
    trials = expand(write_spec, sweep=SAMPLE.format(seed=seed))
    return [(t.spec.training.optimizer.learning_rate, t.spec.training.batch_size) for t in trials]


def test_draws_are_a_function_of_their_seed(write_spec):
    assert draws(write_spec, 0) == draws(write_spec, 0)
    assert not set(draws(write_spec, 0)) & set(draws(write_spec, 1))


def test_more_samples_keep_the_first_ones(write_spec):
    spec = write_spec(sweep=SAMPLE.format(seed=0))
    few = specs.expand(specs.load(spec, ["sweep.samples=3"]))
    assert [trial.hash for trial in few] == [trial.hash for trial in specs.expand(specs.load(spec))][:3]


def test_draws_follow_their_distribution(write_spec):
    rates, sizes = zip(*draws(write_spec, 0), strict=True)
    assert set(sizes) == {2, 3, 4}
    assert all(1e-3 <= rate <= 1e-1 for rate in rates)
    assert 10 <= sum(math.log10(rate) < -2 for rate in rates) <= 30  # half of them, on a logarithmic scale


# Repeats


def test_points_that_differ_without_effect_are_one_trial(write_spec):
    trials = expand(
        write_spec,
        training="{regime: full+augmented, epochs: 3}",
        seeds="[0, 1]",
        sweep="{grid: {selection.strategy: [none, random, coreset, full], selection.fraction: [0.1, 0.2]}}",
    )
    labels = [(trial.spec.selection.strategy, trial.size(), trial.spec.seed) for trial in trials]
    assert labels == [
        *(("none", "", seed) for seed in (0, 1)),
        *(("random", size, seed) for size in ("10%", "20%") for seed in (0, 1)),
        *(("coreset", size, seed) for size in ("10%", "20%") for seed in (0, 1)),
        *(("full", "", seed) for seed in (0, 1)),
    ]


def test_in_a_subset_none_has_a_size_and_full_has_not(write_spec):
    trials = expand(write_spec, sweep="{grid: {selection.strategy: [none, full], selection.fraction: [0.1, 0.2]}}")
    assert [trial.size() for trial in trials] == ["10%", "20%", ""]


def test_beside_a_random_subset_even_full_has_a_size(write_spec):
    trials = expand(
        write_spec,
        training="{regime: random+augmented, epochs: 3}",
        sweep="{grid: {selection.strategy: [none, full], selection.fraction: [0.1, 0.2]}}",
    )
    assert [trial.size() for trial in trials] == ["10%", "20%"] * 2


def test_equal_values_are_one_trial(write_spec):
    assert len(expand(write_spec, sweep="{grid: {selection.fraction: [1, 1.0, 0.5, 5e-1]}}")) == 2


def test_trials_that_differ_in_nothing_but_where_their_data_lie_are_refused(write_spec):
    folder = "{name: image_folder, root: one}"
    with pytest.raises(specs.SpecError) as caught:
        expand(write_spec, dataset=folder, sweep="{grid: {dataset.root: [one, other]}}", seeds="[0, 1]")
    (problem,) = caught.value.problems
    assert "dataset.root = 'other': differs from the trial on one in nothing but where" in str(problem)
    assert problem.line is not None


def test_data_sets_may_be_swept_with_what_tells_them_apart(write_spec):
    folder = "{name: image_folder, root: one}"
    axes = "{zip: {dataset.root: [one, other], training.epochs: [3, 4]}}"
    assert [trial.spec.dataset.root for trial in expand(write_spec, dataset=folder, sweep=axes)] == ["one", "other"]


@pytest.mark.parametrize(
    ("selection", "size"),
    [
        ("{fraction: 0.1}", "10%"),
        ("{fraction: 0.07}", "7%"),
        ("{fraction: 0.125}", "12.5%"),
        ("{budget: 1500}", "1500"),
        ("{tolerance: 0.5}", "ξ=0.5"),
        ("{tolerance: 3}", "ξ=3"),
    ],
)
def test_sizes_read_as_they_were_given(selection, size, write_spec):
    (trial,) = expand(write_spec, selection=selection)
    assert trial.size() == size


# The library, without a file


def test_a_sweep_made_in_python_expands_and_names_itself_in_errors():
    fields = {
        "name": "made-here",
        "dataset": {"name": "digits"},
        "model": {"name": "mlp"},
        "training": {"regime": "subset", "epochs": 3},
        "sweep": {"grid": {"selection.fraction": [0.1, 0.2]}},
    }
    sweep = specs.SweepSpec.model_validate(fields)
    assert [trial.size() for trial in specs.expand(sweep)] == ["10%", "20%"]
    wrong = specs.SweepSpec.model_validate(fields | {"sweep": {"grid": {"selection.fraction": [0.1, 2]}}})
    with pytest.raises(specs.SpecError, match=r"made-here: selection.fraction = 2: should be a number"):
        specs.expand(wrong)
