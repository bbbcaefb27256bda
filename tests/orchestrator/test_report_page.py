"""The report as files: the page by itself and in a real browser, and the figures."""

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from report_sweeps import believable, pictures, sweep_spec, write_sweep
from rich.console import Console

from orchestrator import reporting
from orchestrator.report.comparisons import compare
from orchestrator.report.contact_sheets import Pictures, contact_sheets
from orchestrator.report.page import spec_yaml
from orchestrator.report.results import read_results
from orchestrator.report.writing import FIGURED, ReportFiles, write_report
from specs import Trial, TrialSpec
from specs.resources import Storage as Place
from workers.records import SweepRecord, selection_key
from workers.storage import LocalStorage

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def left(trial: Trial) -> float | None:
    """All results but one."""
    gone = ("random", "30%", 2)
    return None if (trial.spec.selection.strategy, trial.size(), trial.spec.seed) == gone else believable(trial)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStorage, ReportFiles]:
    storage = LocalStorage(tmp_path_factory.mktemp("report"))
    sweep = write_sweep(storage, sweep_spec(reproduces="table5_noisy_cifar10"), left, concurrent=True)
    return storage, write_report(storage, sweep, pictures)


class Links(HTMLParser):
    """Everything a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.scripts = 0
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.scripts += tag == "script"
        if tag == "a":
            self.linked.append(values["href"])
        else:
            self.loaded += [values[name] for name in ("src", "href", "srcset", "data") if name in values]
        if tag == "img":
            self.alts.append(values.get("alt", ""))


def test_page_is_self_contained(written: tuple[LocalStorage, ReportFiles]) -> None:
    storage, files = written
    html = storage.read(files.page).decode()
    links = Links()
    links.feed(html)
    assert links.loaded
    assert all(link.startswith("data:") for link in links.loaded)
    assert "url(" not in html
    assert "@import" not in html
    assert links.scripts == 0
    assert all(len(alt) > 20 for alt in links.alts)
    for link in links.linked:  # the files that lie next to it
        assert storage.exists(f"report/{link}"), link


def test_every_file_is_written_and_named(written: tuple[LocalStorage, ReportFiles]) -> None:
    storage, files = written
    assert sorted(files.keys) == storage.list("report")
    stems = {Path(key).stem for key in files.figures}
    assert {"curves-10pct", "curves-30pct", "time-split", "accuracy-time", "overlap-10pct"} <= stems
    assert {"mislabelled-30pct", "gradient-error-10pct", "images-10pct-coreset", "images-30pct-random"} <= stems
    assert all(storage.read(key).startswith(b"\x89PNG") for key in files.figures)
    assert not any(b"matplotlib" in storage.read(key).lower() for key in files.figures)


def test_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    grid = {"selection.strategy": ["none", "coreset", "full"], "selection.fraction": [0.1]}
    spec = sweep_spec(seeds=[0, 1], training={"regime": "full+augmented", "epochs": 3}, sweep={"grid": grid})
    storage = LocalStorage(tmp_path)
    sweep = write_sweep(storage, spec)
    first = {key: storage.read(key) for key in write_report(storage, sweep).keys}
    assert first == {key: storage.read(key) for key in write_report(storage, sweep).keys}


def test_a_report_beside_a_run_that_ends_meanwhile_tells_what_the_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path / "demo")
    grid = {"selection.strategy": ["none"]}
    spec = sweep_spec(training={"regime": "full+augmented", "epochs": 1}, sweep={"grid": grid})
    sweep = write_sweep(storage, spec)
    last = f"trials/{sweep.trials[-1].id}/result.json"
    result = storage.read(last)
    storage.delete(last)

    def while_it_ends(*given: Any) -> ReportFiles:
        files = write_report(*given)
        storage.write(last, result)
        return files

    monkeypatch.setattr(reporting, "write_report", while_it_ends)
    terminal = Console(file=io.StringIO())
    reporting.write_stored_report(Place(path=str(tmp_path)), "demo", terminal)
    assert "<dd>3 of 3</dd>" in storage.read("report/index.html").decode()


def test_figures_without_data_are_left_out_and_old_ones_go(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("report/figures/mislabelled-10pct.png", b"of an earlier report")
    grid = {"selection.strategy": ["none", "full"]}
    training = {"regime": "full+augmented", "epochs": 3}
    spec = sweep_spec(dataset={"name": "digits"}, training=training, sweep={"grid": grid})
    files = write_report(storage, write_sweep(storage, spec), pictures)
    assert [Path(key).stem for key in files.figures] == ["curves-all", "accuracy-time", "time-split"]
    assert storage.list("report/figures") == sorted(files.figures)


def test_figures_stop_at_a_dozen_comparisons_and_the_page_says_so(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    grid = {"selection.strategy": ["none"], "model.width": list(range(1, FIGURED + 3))}
    sweep = write_sweep(
        storage, sweep_spec(seeds=[0], training={"regime": "full+augmented", "epochs": 1}, sweep={"grid": grid})
    )
    for entry in sweep.trials[1:]:  # figures of one comparison are enough to draw
        storage.delete(f"trials/{entry.id}/result.json")
    page = storage.read(write_report(storage, sweep).page).decode()
    assert f"first {FIGURED} of {FIGURED + 2} comparisons" in page
    assert page.count("<h3>model.width = ") == FIGURED + 2


def test_contact_sheet_shows_the_largest_weights_first(tmp_path: Path) -> None:
    asked: list[tuple[str, npt.NDArray[np.int64]]] = []

    def remember(spec: TrialSpec, ids: npt.NDArray[np.int64]) -> Pictures:
        asked.append((spec.selection.strategy, ids))
        return pictures(spec, ids)

    storage = LocalStorage(tmp_path)
    grid = {"selection.strategy": ["random", "max_loss", "coreset"], "selection.fraction": [0.1]}
    sweep = write_sweep(storage, sweep_spec(sweep={"grid": grid}))
    (comparison,) = compare(read_results(storage, sweep))
    sheets = contact_sheets(storage, comparison, remember, "")
    assert sheets is not None
    assert [name for name, _ in asked] == ["coreset", "max_loss", "random"]
    assert [panel.stem for panel in sheets.panels] == [f"images-10pct-{name}" for name, _ in asked]
    cell = comparison.at("coreset", "10%")
    assert cell is not None
    with np.load(storage.path(selection_key(cell.results[0].trial_id, 11))) as stored:
        by_weight = stored["ids"][np.argsort(-stored["weights"])]
    shown = asked[0][1]
    assert len(shown) == 15
    assert shown.tolist() == by_weight[:15].tolist()
    wrong = sum(number % 2 for number in shown)
    assert f"{wrong} of them mislabelled" in sheets.panels[0].alt


def test_a_password_in_an_old_sweeps_spec_stays_out_of_the_page() -> None:
    tracking = {"uri": "postgresql://medoid:s3cret:@x@db.local:5432/runs"}
    text = spec_yaml(SweepRecord(name="old", description="", spec={"tracking": tracking}, trials=()))
    assert "postgresql://medoid:***@db.local:5432/runs" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("orchestrator.report.paper_terminal", {"matplotlib", "jinja2", "PIL", "torch", "ray", "mlflow"}),
        ("orchestrator.report.terminal", {"matplotlib", "jinja2", "PIL", "torch", "ray", "mlflow"}),
        ("orchestrator.report.writing", {"matplotlib.pyplot", "torch", "ray", "mlflow"}),
    ],
)
def test_imports_stay_light(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not unwanted & set(loaded.split())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("NO BROWSER: the page is not tested; apt-get install -y chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_in_a_browser(written: tuple[LocalStorage, ReportFiles], browser: Any, width: int, scheme: str) -> None:
    storage, files = written
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.get(storage.path(files.page).as_uri())
    assert browser.get_log("browser") == []
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == len(files.figures)
    assert all(widths)
    inside = browser.execute_script(
        "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert inside[0] <= inside[1] <= width
    text = browser.find_element("tag name", "body").text
    for part in (
        "none",
        "max_loss",
        "coreset",
        "10%",
        "89.5 ± 0.1",
        "n = 2 of 3",
        "Share of full’s gain",
        "unfinished",
        "Beside the paper: Table 5",
        "paper 74.67 ± 0.15",
        "dataset.name",
        "trials have no part in the speed-ups",
    ):
        assert part in text, part
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(253, 254, 254)", "dark": "rgb(27, 32, 39)"}[scheme]
