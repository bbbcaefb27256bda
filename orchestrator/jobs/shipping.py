"""What a job is sent: the sweep as it was checked here, and this package.

The package goes along always, even where the cluster's image has one: what runs is then what checked the spec, to the
byte, on every node. It goes as the folders of its modules, as a wheel holds them, with a wheel's metadata beside: Ray
puts them first on the path of every process, and no node has to run pip. Ray names what it is sent by its content, so
the same package and spec are sent once.
"""

import importlib.util
import json
import shutil
from importlib.metadata import version
from pathlib import Path

from specs import SweepSpec, load
from workers.commits import COMMIT, commit

SPEC = "sweep.yaml"
PACKAGES = ("specs", "selection", "workers", "orchestrator")


def pack(sweep: SweepSpec, folder: Path) -> None:
    """Fill an empty folder with a sweep, overrides and bases resolved, and with this package."""
    text = json.dumps(sweep.model_dump(mode="json", exclude_defaults=True), indent=1, ensure_ascii=False)
    (folder / SPEC).write_text(text + "\n", encoding="utf-8")  # JSON is YAML
    assert load(folder / SPEC) == sweep, "what runs must be what was checked"
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.submodule_search_locations is not None
        source = Path(next(iter(found.submodule_search_locations)))
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    metadata = folder / f"medoid-{version('medoid')}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medoid\nVersion: {version('medoid')}\n")
    (metadata / COMMIT).write_text(commit())
