"""From a file to plain data: YAML's scalars, files that cannot be read, bases and overrides."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import specs
from specs.loading import LIBRARY, read
from specs.parsing import parse

LIBRARY_SPECS = sorted(path.stem for path in LIBRARY.glob("*.yaml"))


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("off", "on", "no", "yes", "y", "2020-01-01", "010", "1_000", "12:30", "0x1F", "=")),
        *((text, True) for text in ("true", "True")),
        ("false", False),
        *((text, None) for text in ("null", "~", "")),
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0", 0),
        ("+7", 7),
        ("'7'", "7"),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    data, _, _ = parse(f"key: {text}", "spec.yaml")
    assert data["key"] == value
    assert type(data["key"]) is type(value)


def test_weights_off_stays_a_word(write_spec):
    spec = write_spec(selection="{fraction: 1e-1, weights: off}")
    assert specs.load(spec).selection.weights == "off"
    assert specs.load(spec).selection.fraction == 0.1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- a\n", "spec.yaml:1: a spec is a mapping of sections, such as name:, dataset:, training:"),
        ("hello", "spec.yaml:1: a spec is a mapping of sections, such as name:, dataset:, training:"),
        (
            "name: a\nselection: {fraction: [1}\n",
            "spec.yaml:2: not valid YAML: while parsing a flow sequence expected ',' or ']', but got '}'",
        ),
        (
            "name:\n\t- a",
            "spec.yaml:2: not valid YAML: while scanning for the next token found character '\\t' "
            "that cannot start any token",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "spec.yaml:2: not valid YAML: expected a single document in the stream but found another document",
        ),
        (
            "name: a\0b",
            "spec.yaml: not valid YAML: unacceptable character #x0000: special characters are not allowed "
            'in "<unicode string>", position 7',
        ),
        ("name: &a [*a]", "spec.yaml: nested too deeply, or an alias that holds itself"),
        (
            "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "spec.yaml: holds more than 500,000 values, each use of an alias counted",
        ),
    ],
)
def test_text_that_is_no_spec(text, error, write_text, complaints):
    assert complaints(write_text(text)) == error.split("\n")


@pytest.mark.parametrize(
    ("sections", "errors"),
    [
        ({"name": "!!int x"}, ["spec.yaml:1: name: a spec has no YAML tags; got !!int"]),
        ({"name": "!!python/tuple [1]"}, ["spec.yaml:1: name: a spec has no YAML tags; got !!python/tuple"]),
        ({"name": "a\n? [b]\n: 1"}, ["spec.yaml:2: a key must be a word, not a list or a mapping"]),
        ({"seeds": f"[{'9' * 5000}]"}, ["spec.yaml:6: seeds[0]: not a number that can be read"]),
        (
            {"selection": "\n  budget: 1\n  every: 1\n  budget: 2\nname: b"},
            [
                "spec.yaml:8: selection.budget: this key stands here twice",
                "spec.yaml:9: name: this key stands here twice",
            ],
        ),
    ],
)
def test_what_cannot_be_meant_is_reported_beside_all_else(sections, errors, write_spec, complaints):
    assert complaints(write_spec(**sections)) == errors
    line = 4 + sections.get("name", "").count("\n")
    bad = f"spec.yaml:{line}: training.epochs = 0: should be an integer, at least 1"
    assert sorted(complaints(write_spec(**sections, training="{regime: subset, epochs: 0}"))) == sorted([*errors, bad])


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_lacks_every_required_section(text, write_text, complaints):
    lines = complaints(write_text(text))
    assert [line.split(";")[0] for line in lines] == [
        f"spec.yaml: {name}: missing" for name in ("dataset", "model", "training", "name")
    ]


# Files


def test_a_file_that_is_not_utf_8(tmp_path, complaints):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    assert complaints(path) == [f"{path}: cannot be read: not UTF-8 text"]


def test_a_folder_is_no_spec(tmp_path, complaints):
    assert complaints(tmp_path) == [f"{tmp_path}: is a folder; a spec is a YAML file"]


def test_a_pipe_is_a_file_too(write_text):
    """As a shell's <(…) is."""
    code = "import sys, specs; print(specs.load(sys.argv[1]).name)"
    shell = f"{sys.executable} -c '{code}' <(cat spec.yaml)"
    write_text("extends: quickstart\nname: piped\n")
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout == "piped\n"


def test_a_missing_file_names_the_library(tmp_path, complaints):
    known = ", ".join(LIBRARY_SPECS)
    assert complaints("quikstart") == [f"quikstart: no such file (did you mean 'quickstart'?); library specs: {known}"]
    assert complaints(tmp_path / "quickstart") == [f"{tmp_path}/quickstart: no such file; library specs: {known}"]


def test_a_name_too_long_for_the_file_system(complaints):
    assert complaints("a" * 5000) == [f"{'a' * 5000}: cannot be read: File name too long"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(write_spec, complaints):
    path = write_spec()
    path.chmod(0)
    assert complaints(path) == ["spec.yaml: cannot be read: Permission denied"]


@pytest.mark.parametrize("name", LIBRARY_SPECS)
def test_every_library_spec_loads_and_expands(name):
    own_data = read(name).data["dataset"]["name"] == "digits"
    sweep = specs.load(name, [] if own_data else ["dataset.root=data"])
    assert sweep.name == name
    assert specs.expand(sweep)


def test_a_file_wins_over_the_library_and_the_library_over_a_folder(write_spec):
    folder = write_spec().absolute().parent
    (folder / "quickstart").mkdir()  # such as the folder of its results
    assert specs.load("quickstart").dataset.label_noise == 0.5
    (folder / "quickstart").rmdir()
    write_spec("quickstart")
    assert specs.load("quickstart").name == "small"


# extends


def test_a_base_is_merged_section_by_section(write_spec, write_text):
    write_spec("base.yaml", description="of the base", seeds="[1, 2]")
    write_text("extends: middle.yaml\ntraining: {epochs: 7}\nseeds: [5]\n", "top.yaml")
    write_text("extends: base.yaml\ntraining: {batch_size: 16}\nname: middle\n", "middle.yaml")
    sweep = specs.load("top.yaml")
    assert (sweep.name, sweep.description, sweep.seeds) == ("middle", "of the base", (5,))
    assert (sweep.training.regime, sweep.training.epochs, sweep.training.batch_size) == ("subset", 7, 16)


def test_a_base_lies_beside_the_file_that_names_it(write_spec, write_text, tmp_path, monkeypatch):
    write_spec("base.yaml")
    (tmp_path / "below").mkdir()
    write_text("extends: ../base.yaml\nname: top\n", "below/top.yaml")
    monkeypatch.chdir("/")
    assert specs.load(tmp_path / "below" / "top.yaml").name == "top"


def test_a_library_spec_can_be_the_base(write_text):
    sweep = specs.load(write_text("extends: quickstart\nname: mine\nsweep: {grid: {selection.fraction: [0.2]}}\n"))
    assert sweep.name == "mine"
    assert sweep.sweep.grid["selection.fraction"] == (0.2,)
    assert "selection.strategy" in sweep.sweep.grid


@pytest.mark.parametrize(
    ("base", "own", "schedule"),
    [
        (
            "{name: milestones, milestones: [1]}",
            "{name: cosine, warmup_epochs: 1}",
            {"name": "cosine", "warmup_epochs": 1},
        ),
        ("cosine", "{warmup_epochs: 1}", {"name": "cosine", "warmup_epochs": 1}),
        ("{name: cosine, warmup_epochs: 1}", "constant", {"name": "constant", "warmup_epochs": 0}),
        (
            "{name: milestones, milestones: [1, 2]}",
            "{gamma: 0.5}",
            {"name": "milestones", "milestones": (1, 2), "gamma": 0.5, "warmup_epochs": 0},
        ),
    ],
)
def test_another_kind_of_schedule_replaces_the_base_s(base, own, schedule, write_spec, write_text):
    write_spec("base.yaml", training=f"{{regime: subset, epochs: 3, schedule: {base}}}")
    sweep = specs.load(write_text(f"extends: base.yaml\ntraining: {{schedule: {own}}}\n"))
    assert sweep.training.schedule.model_dump() == schedule


def test_errors_point_at_the_file_that_wrote_the_value(write_spec, write_text, complaints):
    write_spec("base.yaml", model="{name: mlpp}", seeds="[a, b]", checkpoints="{every: 0, keep: [9]}")
    spec = write_text("extends: base.yaml\ncheckpoints: {every: 2}\nseeds: [true]\n", "top.yaml")
    places = [line.split(" = ")[0] for line in complaints(spec)]
    assert places == ["base.yaml:3: model.name", "base.yaml:7: checkpoints.keep", "top.yaml:3: seeds[0]"]


@pytest.mark.parametrize(
    ("extends", "error"),
    [
        ("top.yaml", "top.yaml:2: extends = 'top.yaml': leads back to a file that extends this one"),
        ("middle.yaml", "middle.yaml:1: extends = 'top.yaml': leads back to a file that extends this one"),
        (
            "[a, b]",
            "top.yaml:2: extends = ['a', 'b']: should be the path of a spec file, or the name of a library spec",
        ),
        ("quikstart", "top.yaml:2: extends = 'quikstart': no such file (did you mean 'quickstart'?); library specs: "),
        ("folder", "top.yaml:2: extends = 'folder': is a folder; a spec is a YAML file"),
        ("null", "top.yaml:2: extends = null: should be the path of a spec file, or the name of a library spec"),
    ],
)
def test_a_base_that_cannot_be_used(extends, error, write_text, complaints):
    write_text("extends: top.yaml\n", "middle.yaml")
    Path("folder").mkdir()
    (line,) = complaints(write_text(f"name: top\nextends: {extends}\n", "top.yaml"))
    assert line.startswith(error)


# --set


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("training.epochs=5", "training.epochs", 5),
        (" training . epochs = 5", "training.epochs", 5),
        ("training.optimizer.learning_rate=1e-2", "training.optimizer.learning_rate", 0.01),
        ("seeds=[1, 2]", "seeds", (1, 2)),
        ("checkpoints.keep=[1]", "checkpoints.keep", (1,)),
        ("description=a=b", "description", "a=b"),
        ("selection={budget: 3}", "selection.budget", 3),
        ("training.schedule.warmup_epochs=2", "training.schedule.warmup_epochs", 2),
        ("sweep.grid.selection.every=[1, 2]", "sweep.grid", {"selection.every": (1, 2)}),
        ("tracking.uri=null", "tracking.uri", None),
    ],
)
def test_an_override_sets_a_field(override, field, value, write_spec):
    spec = write_spec(training="{regime: subset, epochs: 3, schedule: cosine}", tracking="{uri: 'sqlite:///x'}")
    found = specs.load(spec, [override])
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


def test_null_makes_room_for_another_size(write_spec):
    chosen = specs.load(write_spec(), ["selection.fraction=null", "selection.budget=5"]).selection
    assert (chosen.fraction, chosen.budget) == (None, 5)


def test_a_later_override_wins(write_spec):
    assert specs.load(write_spec(), ["training.epochs=4", "training.epochs=5"]).training.epochs == 5


@pytest.mark.parametrize(
    ("override", "error"),
    [
        *(
            (bad, f"--set {bad}: should be field=value, such as --set training.epochs=5")
            for bad in ("training.epochs", "=3", "training..epochs=3", "")
        ),
        (
            "training.epoch=3",
            "--set training.epoch=3: training.epoch = 3: unknown key (did you mean 'epochs'?); "
            "allowed: regime, epochs, batch_size, optimizer, schedule",
        ),
        (
            "trainig.epochs=3",
            "--set trainig.epochs=3: trainig: unknown key (did you mean 'training'?); allowed: dataset",
        ),
        (
            "training.epochs=[1",
            "--set training.epochs=[1: training.epochs: not valid YAML: while parsing a flow sequence",
        ),
        ("training.epochs=", "--set training.epochs=: training.epochs = null: should be an integer, at least 1"),
        ("name.x=3", "--set name.x=3: name.x: name holds a value, not a section"),
        (
            "extends=quickstart",
            "--set extends=quickstart: extends: stands in a file; name the other spec itself, or write a file that "
            "extends it",
        ),
        *(
            (
                f"augmentation.weak{item}.padding=2",
                f"--set augmentation.weak{item}.padding=2: augmentation.weak{item}.padding: lies in a list, which is "
                "set as a whole: augmentation.weak=[…]",
            )
            for item in ("[0]", ".0")
        ),
        (
            "selection.fraction=0.3",
            "--set selection.fraction=0.3: selection.fraction: this field is swept; "
            "set sweep.grid.selection.fraction instead",
        ),
        (
            "training.schedule.name=constant",
            "--set training.schedule.name=constant: training.schedule.name: this field is swept; "
            "set sweep.zip.training.schedule instead",
        ),
        (
            "sweep.grid.selection.fraction=[0.2, 2]",
            "--set sweep.grid.selection.fraction=[0.2, 2]: selection.fraction = 2: should be a number, above 0",
        ),
    ],
)
def test_an_override_that_cannot_be_used(override, error, write_spec, complaints):
    axes = "{grid: {selection.fraction: [0.1, 0.2]}, zip: {training.schedule: [cosine]}}"
    spec = write_spec(augmentation="{weak: [random_flip]}", sweep=axes)
    (line,) = complaints(spec, override)
    assert line.startswith(error)


def test_all_bad_overrides_are_reported_at_once(write_spec, complaints):
    assert len(complaints(write_spec(), "a", "name.x=1", "training.epochs=0")) == 3
    assert len(complaints(write_spec(), "model.name=foo", "training.epochs=0")) == 2


# The house rule


def test_reading_a_spec_imports_nothing_heavy():
    code = (
        "import sys, specs; specs.expand(specs.load('quickstart'));"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'torchvision', 'numpy', 'numba', 'ray', 'mlflow', 'matplotlib', 'rich', 'typer', 'boto3'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_specs_are_frozen(write_spec):
    sweep = specs.load(write_spec())
    (trial,) = specs.expand(sweep)
    for model, field in ((sweep, "name"), (sweep.selection, "fraction"), (trial.spec, "seed"), (trial, "point")):
        with pytest.raises((ValueError, AttributeError), match=r"frozen|cannot assign"):
            setattr(model, field, None)
