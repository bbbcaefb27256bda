"""The paper's tables beside ours, against figures worked out by hand."""

import csv
import io
from pathlib import Path
from typing import Any, get_args

import pytest
from report_sweeps import sweep_spec, write_sweep
from rich.console import Console

from orchestrator.report.comparisons import compare
from orchestrator.report.csv_files import csv_files
from orchestrator.report.drawing import style
from orchestrator.report.markdown import table_markdown, times_markdown
from orchestrator.report.paper import PaperTable, reproduction
from orchestrator.report.paper_terminal import paper_tables
from orchestrator.report.paper_wording import (
    baseline_text,
    beside_text,
    entry_seeds_text,
    entry_text,
    setup_text,
)
from orchestrator.report.provenance import provenance
from orchestrator.report.published import QUANTITIES, Published, published
from orchestrator.report.results import Results, read_results
from orchestrator.report.setups import Difference, differences
from orchestrator.report.speed_figure import gain_against_speed_up
from orchestrator.report.writing import write_report
from specs import SweepSpec, Trial, expand, load
from specs.paper import Exhibit
from workers.records import TrialTimes, load_record, trial_key
from workers.storage import LocalStorage

EXHIBITS: tuple[Exhibit, ...] = get_args(Exhibit)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "demo")


def spec_of(name: str, strategies: list[str], fractions: list[float], **changes: Any) -> SweepSpec:
    grid = {"selection.strategy": strategies, "selection.fraction": fractions}
    return sweep_spec(reproduces=name, dataset={"name": "digits"}, **{"sweep": {"grid": grid}, **changes})


def written(storage: LocalStorage, spec: SweepSpec, levels: dict[tuple[str, str], float | None], **how: Any) -> Results:
    """A sweep whose cells end at these levels, in %: a point less at seed 0, and a point more at seed 2."""

    def level(trial: Trial) -> float | None:
        found = levels[trial.spec.selection.strategy, trial.size()]
        return None if found is None else (found + trial.spec.seed - 1) / 100

    return read_results(storage, write_sweep(storage, spec, level, **how))


def tables_of(results: Results) -> tuple[PaperTable, ...]:
    found = reproduction(results)
    assert found is not None
    (comparison,) = compare(results)
    return found.timed_tables(comparison)


def words(table: PaperTable) -> list[list[str]]:
    """Rows of a table, a text a cell: what is here, and the paper's figure with the difference."""
    rows = []
    for label, entries in table.rows:
        texts = [f"{entry_text(table.quantity, one)} | {beside_text(table.quantity, one)}" for one in entries]
        rows.append([label, *texts])
    return rows


def markdown_of(results: Results) -> str:
    comparisons = compare(results)
    return table_markdown(results, comparisons, provenance(results, comparisons))


def terminal_of(results: Results) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(paper_tables(results))
    return console.export_text()


class TestPublished:
    def test_there_is_an_entry_for_each_exhibit_and_for_nothing_else(self) -> None:
        assert list(published()) == list(EXHIBITS)

    @pytest.mark.parametrize("name", EXHIBITS)
    def test_the_library_has_what_the_paper_has(self, name: Exhibit) -> None:
        """The same sizes and strategies, under the exhibit's own name."""
        sweep, there = load(name), published()[name]
        assert (sweep.name, sweep.reproduces) == (name, name)
        trials = expand(sweep)
        strategies = {strategy for quantity in QUANTITIES for strategy in there.of(quantity)}
        if strategies:
            assert strategies <= {trial.spec.selection.strategy for trial in trials}
            assert {trial.size() for trial in trials if trial.size()} == set(there.sizes)
        else:
            assert any("not in the text we have" in remark for remark in there.remarks)

    def test_figures_of_the_paper_by_eye(self) -> None:
        there = published()
        assert there["table1_caltech256"].at("accuracy", "coreset", "10%").text == "65.4"
        assert there["table3_tinyimagenet"].at("accuracy", "max_loss", "50%").text == "53.37"
        assert there["table4_svhn"].at("share", "random", "5%").text == "5.8"
        assert there["table4_cifar10_ib"].at("accuracy", "full", "").text == "92.48"
        noisy = there["table5_noisy_cifar10"].at("accuracy", "coreset", "50%")
        assert (noisy.text, noisy.value, noisy.std) == ("76.20 ± 0.75", 76.2, 0.75)
        bound = there["table1_cifar10_wrn2810"].at("accuracy", "max_loss", "1%")
        assert (bound.text, bound.below) == ("< 15", True)
        assert there["figure2_cifar10"].at("speedup", "coreset", "30%").text == "3.43"
        assert there["figure2_cifar10"].at("speedup", "coreset", "10%") is None
        assert there["table6_imagenet"].at("accuracy", "coreset", "20%") is None

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"place": "Table 9", "sizes": ["1%"], "accuracy": {"random": ["12,5"]}}, "not a figure as the paper"),
            ({"place": "Table 9", "sizes": ["1%"], "accuracy": {"random": ["12.5", "13"]}}, "has 2 values, sizes 1"),
            ({"place": "Table 9", "sizes": ["1%"], "per_class": ["1", "2"]}, "per_class has 2 values, sizes 1"),
            ({"place": "Table 9", "accuracy": {"craig": "12.5"}}, "none"),
            ({"place": "Table 9", "accurracy": {}}, "Extra inputs"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, entry: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Published.model_validate(entry)


class TestLayout:
    def test_accuracy_by_fraction(self, storage: LocalStorage) -> None:
        """Table 1: strategies by size; a size that the paper has not, one that is not here, and a kept bound."""
        spec = spec_of(
            "table1_cifar10_resnet20",
            ["none", "random", "max_loss", "coreset"],
            [0.001, 0.01, 0.02],
            training={"regime": "subset", "epochs": 2},
        )
        levels: dict[tuple[str, str], float | None] = {
            **{("none", size): 30.0 for size in ("0.1%", "1%", "2%")},
            **{("random", size): level for size, level in (("0.1%", 33.0), ("1%", 75.0), ("2%", 80.0))},
            **{("max_loss", size): level for size, level in (("0.1%", 10.0), ("1%", 20.0), ("2%", 9.0))},
            **{("coreset", size): level for size, level in (("0.1%", 38.5), ("1%", 74.7), ("2%", 81.0))},
        }
        results = written(storage, spec, levels)
        (table,) = tables_of(results)
        assert table.columns == ("0.1% (5)", "0.2% (10)", "0.5% (25)", "1% (50)", "2%")
        assert words(table) == [
            ["Max-loss", "10.0 ± 1.0 | paper < 15, so here", "– | paper < 15", "– | paper < 15",
             "20.0 ± 1.0 | paper < 15, +5.0", "9.0 ± 1.0 | "],
            ["Random", "33.0 ± 1.0 | paper 33.5, −0.5", "– | paper 42.7", "– | paper 58.7",
             "75.0 ± 1.0 | paper 74.4, +0.6", "80.0 ± 1.0 | "],
            ["Coreset (Ours)", "38.5 ± 1.0 | paper 37.8, +0.7", "– | paper 45.1", "– | paper 63.9",
             "74.7 ± 1.0 | paper 74.7, +0.0", "81.0 ± 1.0 | "],
        ]  # fmt: skip
        text = markdown_of(results)
        assert "## Beside the paper: Table 1, columns C10/R20" in text
        assert "|  | 0.1% (5) | 0.2% (10) | 0.5% (25) | 1% (50) | 2% |" in text
        assert "| Random | **33.0 ± 1.0**<br>n = 3<br>paper 33.5, −0.5 | **–**<br>paper 42.7 |" in text
        assert "Appendix D.4, which is not in the text we have." in text
        shown = terminal_of(results)
        assert "Beside the paper: Table 1, columns C10/R20" in shown
        assert "paper 33.5, −0.5" in shown

    def test_share_of_the_gain(self, storage: LocalStorage) -> None:
        """Table 4: of 10 points that full gains, random gains 2.5 and the coreset 5; all seeds agree."""
        spec = spec_of("table4_cifar10", ["none", "full", "random", "coreset"], [0.05, 0.3])
        levels: dict[tuple[str, str], float | None] = {
            ("none", ""): 80.0,
            ("full", ""): 90.0,
            ("random", "5%"): 82.5,
            ("random", "30%"): 85.0,
            ("coreset", "5%"): 85.0,
            ("coreset", "30%"): 88.0,
        }
        results = written(storage, spec, levels)
        accuracy, share = tables_of(results)
        assert [baseline_text(accuracy.quantity, one) for one in accuracy.baselines] == [
            "Weak only: 80.0 ± 1.0 (n = 3; paper 89.46, −9.5)",
            "Full: 90.0 ± 1.0 (n = 3; paper 93.50, −3.5)",
        ]
        assert (accuracy.columns, accuracy.rows) == ((), ())
        assert share.columns == ("5%", "10%", "30%")
        assert words(share) == [
            [
                "Random",
                "25.0 [25.0, 25.0] | paper 21.8, +3.2",
                "– | paper 39.9",
                "50.0 [50.0, 50.0] | paper 65.6, −15.6",
            ],
            ["Max-loss", "– | paper 32.9", "– | paper 47.8", "– | paper 73.5"],
            [
                "Coreset (Ours)",
                "50.0 [50.0, 50.0] | paper 34.9, +15.1",
                "– | paper 51.5",
                "80.0 [80.0, 80.0] | paper 75.0, +5.0",
            ],
        ]
        rows = list(csv.DictReader(io.StringIO(csv_files(results)["paper.csv"].decode())))
        found = {(row["quantity"], row["strategy"], row["size"]): row for row in rows}
        assert found["accuracy", "full", ""]["published"] == "93.5"
        assert float(found["share", "coreset", "30%"]["difference"]) == pytest.approx(5.0)
        assert found["share", "max_loss", "5%"]["here"] == ""

    def test_mean_and_deviation_with_missing_trials(self, storage: LocalStorage) -> None:
        """Table 5: sizes by strategies, deviations on both sides; a cell with no trial done, and one with two."""
        spec = spec_of("table5_noisy_cifar10", ["none", "random", "max_loss", "coreset"], [0.1, 0.5])
        sizes = ("10%", "50%")
        levels: dict[tuple[str, str], float | None] = {
            ("none", ""): 71.0,
            **{("random", size): 73.0 for size in sizes},
            **{("max_loss", size): None for size in sizes},
            **{("coreset", size): 76.0 for size in sizes},
        }
        results = written(storage, spec, levels)
        gone = next(one for one in results.sweep.trials if (one.strategy, one.size, one.seed) == ("coreset", "50%", 2))
        storage.delete(trial_key(gone.id, "result.json"))
        results = read_results(storage, results.sweep)
        (table,) = tables_of(results)
        assert table.columns == ("Random", "Max-loss", "Coreset (Ours)")
        assert words(table) == [
            ["10%", "73.0 ± 1.0 | paper 72.32 ± 0.14, +0.7", "– | paper 71.83 ± 0.13",
             "76.0 ± 1.0 | paper 73.02 ± 1.06, +3.0"],
            ["30%", "– | paper 74.46 ± 0.27", "– | paper 72.45 ± 0.48", "– | paper 74.67 ± 0.15"],
            ["50%", "73.0 ± 1.0 | paper 75.36 ± 0.05, −2.4", "– | paper 73.23 ± 0.72",
             "75.5 ± 0.7 | paper 76.20 ± 0.75, −0.7"],
        ]  # fmt: skip
        seeds = [[entry_seeds_text(one) for one in entries] for _, entries in table.rows]
        assert seeds == [["n = 3", "n = 0 of 3", "n = 3"], ["", "", ""], ["n = 3", "n = 0 of 3", "n = 2 of 3"]]
        weak, full = (baseline_text(table.quantity, one) for one in table.baselines)
        assert weak == "Weak only: 71.0 ± 1.0 (n = 3; paper 70.72 ± 0.20, +0.3)"
        assert full == "Full: – (paper 75.87 ± 0.77)"
        assert "(n = 2 of 3)" in terminal_of(results)

    def test_every_other_axis_has_a_table_of_its_own(self, storage: LocalStorage) -> None:
        grid = {
            "selection.strategy": ["random", "coreset"],
            "selection.fraction": [0.3],
            "selection.weights": ["mean_one", "off"],
        }
        spec = sweep_spec(reproduces="table2_caltech256_cutout", sweep={"grid": grid})
        results = written(storage, spec, {("random", "30%"): 43.0, ("coreset", "30%"): 55.0})
        text = markdown_of(results)
        assert text.count("paper 43.32, −0.3") == text.count("paper 55.53, −0.5") == 2
        assert "### selection.weights = off" in text
        rows = list(csv.DictReader(io.StringIO(csv_files(results)["paper.csv"].decode())))
        assert {row["selection.weights"] for row in rows} == {"mean_one", "off"}

    def test_what_the_text_does_not_give_is_said_and_not_made_up(self, storage: LocalStorage) -> None:
        spec = spec_of("append_vs_in_place", ["none", "full"], [1.0])
        results = written(storage, spec, {("none", ""): 80.0, ("full", ""): 90.0})
        assert tables_of(results) == ()
        assert "paper.csv" not in csv_files(results)
        assert "Appendix D.6 is not in the text we have." in markdown_of(results)
        assert "Appendix D.6 is not in the text we have." in terminal_of(results)

    def test_a_sweep_that_reproduces_nothing_has_none_of_it(self, storage: LocalStorage) -> None:
        spec = sweep_spec(seeds=[0], training={"regime": "full+augmented", "epochs": 1})
        results = read_results(storage, write_sweep(storage, spec))
        assert reproduction(results) is None
        assert paper_tables(results) is None
        assert "Beside the paper" not in markdown_of(results)
        storage.write("report/paper.csv", b"of an earlier spec")
        assert not any("paper.csv" in key for key in write_report(storage, results.sweep).keys)
        assert not storage.exists("report/paper.csv")


def stems(results: Results) -> list[str]:
    """The names of the plots of gain against speed-up."""
    (comparison,) = compare(results)
    with style():
        figure = gain_against_speed_up(comparison, "", published()["figure2_cifar10"])
    return [panel.stem for panel in figure.panels] if figure else []


SPEED_LEVELS: dict[tuple[str, str], float | None] = {
    ("none", ""): 80.0,
    ("full", ""): 90.0,
    ("coreset", "10%"): 85.0,
    ("coreset", "30%"): 88.0,
}


class TestSpeedUps:
    def spec(self) -> SweepSpec:
        strategies = ["none", "coreset", "full"]
        return spec_of("figure2_cifar10", strategies, [0.1, 0.3], training={"regime": "full+augmented", "epochs": 3})

    def test_gain_against_speed_up(self, storage: LocalStorage) -> None:
        """By hand, from what the trials are written with: seconds an epoch, at seed 1, are

        full 0.7 * 8.0 + 0.01 = 5.61, coreset 30 % 0.7 * 2.25 + 0.21 + 0.01 = 1.795, none 0.7 * 2 + 0.01 = 1.41; a seed
        more is 0.01 s more.
        """
        results = written(storage, self.spec(), SPEED_LEVELS)
        share, speed = tables_of(results)
        assert words(share)[2][1:] == ["– | ", "50.0 [50.0, 50.0] | ", "80.0 [80.0, 80.0] | paper 75, +5.0"]
        label, *cells = words(speed)[2]
        assert label == "Coreset (Ours)"
        assert cells[2] == "3.13 ± 0.02 × | paper 3.43, −0.30"
        text = times_markdown(results, compare(results))
        assert "| none |  | 4.23 ± 0.03 s | 3.98 ± 0.03 × |" in text
        assert "| full |  | 16.8 ± 0.0 s | 1.00 ± 0.00 × |" in text
        # 3 selections a trial, 3 trials: an epoch has 0.1 s of proxies, 0.08 of solving, 0.03 of waiting
        assert "| 9 | 100 ms | 80.0 ms | 30.0 ms | – | 11.7 % |" in text
        assert "have no part in the speed-ups" not in text
        assert stems(results) == ["gain-speed-up"]

    def test_only_from_trials_that_ran_alone(self, storage: LocalStorage) -> None:
        results = written(storage, self.spec(), SPEED_LEVELS, concurrent=True)
        _, speed = tables_of(results)
        assert words(speed)[2][3] == "– | paper 3.43"
        text = times_markdown(results, compare(results))
        assert "12 of 12 trials have no part in the speed-ups" in text
        assert "--inline" in text
        assert stems(results) == []

    def test_a_trial_that_ran_beside_others_stays_out(self, storage: LocalStorage) -> None:
        results = written(storage, self.spec(), SPEED_LEVELS)
        entry = next(one for one in results.sweep.trials if one.strategy == "coreset" and one.size == "30%")
        key = trial_key(entry.id, "times.json")
        times = load_record(storage, key, TrialTimes)
        assert times is not None
        slow = tuple(epoch.model_copy(update={"train": 500.0}) for epoch in times.epochs)
        storage.write(key, times.model_copy(update={"concurrent": True, "epochs": slow}).to_bytes())
        results = read_results(storage, results.sweep)
        assert words(tables_of(results)[1])[2][3].startswith("3.12 ± 0.01 ×")
        assert "1 of 12 trials have no part in the speed-ups" in times_markdown(results, compare(results))

    def test_no_file_but_those_of_times_depends_on_clocks(self, tmp_path: Path) -> None:
        def files(name: str, clock: float) -> tuple[dict[str, bytes], str, str]:
            results = written(LocalStorage(tmp_path / name), self.spec(), SPEED_LEVELS, clock=clock)
            return csv_files(results), markdown_of(results), times_markdown(results, compare(results))

        (one, one_text, one_times), (other, other_text, other_times) = files("one", 1.0), files("other", 7.5)
        assert one.pop("times.csv") != other.pop("times.csv")
        assert "paper.csv" in one
        assert one == other
        assert one_text == other_text
        assert one_times != other_times

    def test_other_hardware_is_not_compared(self, storage: LocalStorage) -> None:
        results = written(storage, self.spec(), SPEED_LEVELS)
        for entry in results.sweep.trials:
            key = trial_key(entry.id, "times.json")
            times = load_record(storage, key, TrialTimes)
            assert times is not None
            if entry.strategy == "full":
                storage.write(key, times.model_copy(update={"hardware": "NVIDIA H100"}).to_bytes())
        results = read_results(storage, results.sweep)
        assert words(tables_of(results)[1])[2][3] == "– | paper 3.43"


class TestSetUps:
    def test_the_library_itself_has_no_differences(self) -> None:
        assert differences(load("table4_svhn"), load("table4_svhn")) == []

    def test_what_set_changes_is_listed_and_what_changes_no_result_is_not(self) -> None:
        changes = [
            "training.epochs=3",
            "training.schedule.milestones=[2]",
            "dataset.name=image_folder",
            "dataset.root=elsewhere",
            "dataset.train_per_class=40",
            "augmentation.weak=[random_flip]",
            "sweep.grid.selection.fraction=[0.3]",
            "resources.gpus=0",
            "checkpoints.every=1",
            "seeds=[0, 1]",
        ]
        found = differences(load("table5_noisy_cifar10", changes), load("table5_noisy_cifar10"))
        assert found == [
            Difference("dataset.name", "image_folder", "cifar10"),
            Difference(
                "augmentation.weak",
                "random_flip(probability=0.5)",
                "random_crop(padding=4) + random_flip(probability=0.5)",
            ),
            Difference("training.epochs", "3", "200"),
            Difference("training.schedule.milestones", "[2]", "[100, 150]"),
            Difference("selection.fraction", "0.3", "0.1, 0.3, 0.5"),
            Difference("dataset.train_per_class", "40", ""),
            Difference("seeds", "2", "3"),
        ]

    def test_of_another_kind_of_section_only_the_kind_is_listed(self) -> None:
        cosine = load("table1_cifar10_resnet20", ["training.schedule=cosine"])
        found = differences(cosine, load("table1_cifar10_resnet20"))
        assert found == [Difference("training.schedule.name", "cosine", "milestones")]
        none = load("table1_cifar10_resnet20", ["sweep.grid.selection.strategy=[random]"])
        found = differences(none, load("table1_cifar10_resnet20"))
        assert found == [Difference("selection.strategy", "random", "random, max_loss, coreset")]

    def test_the_report_says_where_the_set_up_differs(self, storage: LocalStorage) -> None:
        spec = spec_of("table2_caltech256_cutout", ["random", "coreset"], [0.3])
        results = written(storage, spec, {("random", "30%"): 43.0, ("coreset", "30%"): 55.0})
        text = markdown_of(results)
        assert "The set-up is not that of the library’s spec table2_caltech256_cutout" in text
        assert "| dataset.name | digits | caltech256 |" in text
        assert "| selection.fraction | 0.3 | 0.3, 0.4, 0.5 |" in text
        assert "dataset.name" in terminal_of(results)
        page = storage.read(write_report(storage, results.sweep).page).decode()
        assert "<h2>Beside the paper: Table 2, row CutOut</h2>" in page
        assert "<code>dataset.name</code>" in page

    def test_the_report_says_that_it_does_not_differ(self, storage: LocalStorage) -> None:
        results = written(storage, load("append_vs_in_place"), {("none", ""): 80.0, ("full", ""): 90.0})
        found = reproduction(results)
        assert found is not None
        assert setup_text(found).startswith("The set-up is that of the library’s spec append_vs_in_place")
