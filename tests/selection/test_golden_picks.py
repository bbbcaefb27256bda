"""Picks on record: a faster solver must find the same.

`python tests/selection/test_golden_picks.py` writes golden.json anew. Do so only where the definition changes.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facility_location import OBJECTIVES, embeddings, residuals
from numba.core.codegen import get_host_cpu_features

from selection import Proxies, select

GOLDEN = Path(__file__).with_name("golden.json")
N = 400
OPTIONS: dict[str, dict[str, Any]] = {
    "proportional": {"budget": 45},
    "equal": {"budget": 45, "per_class": "equal"},
    "together": {"budget": 45, "per_class": False},
    "half": {"budget": 200, "per_class": False},
    "tolerance": {"tolerance": 2.5},
    "lazy": {"budget": 45, "solver": "lazy"},
    "stochastic": {"budget": 45, "solver": "stochastic", "epsilon": 0.1, "seed": 5},
    "partitions": {"budget": 45, "per_class": False, "partitions": 5, "seed": 5},
    "rounds": {"budget": 30, "per_class": False, "partitions": 20, "alpha": 2.0, "capacity": 40, "seed": 5},
    "sample": {"budget": 30, "per_class": False, "partitions": 5, "sample": 150, "seed": 5},
    "weighted": {"budget": 45, "per_class": False},
    "weighted_tolerance": {"tolerance": 2.5},
}
# Thousandths, exactly what they are in float32 on every machine: no exp or log has a say in the last digit.
GROUNDS: dict[str, Proxies] = {
    name: Proxies(
        np.arange(N) * 3 + 1,
        np.round(residuals(N, classes, 2022) * 1000) / 1000,
        (np.arange(N) % 7) // 2,
        np.round(embeddings(N, width, 2022) * 1000) / 1000 if width else None,
    )
    for name, classes, width in (("narrow", 10, 0), ("wide", 100, 0), ("last_layer", 10, 48))
}
WEIGHTS = np.arange(N) % 4 / 1.0  # a quarter counts for nothing
CASES = [f"{ground}/{objective}/{option}" for ground in GROUNDS for objective in OBJECTIVES for option in OPTIONS]


def picks(case: str) -> dict[str, Any]:
    ground, objective, option = case.split("/")
    given = replace(GROUNDS[ground], weights=WEIGHTS) if option.startswith("weighted") else GROUNDS[ground]
    chosen = select(given, objective=objective, **OPTIONS[option])  # type: ignore[arg-type]
    return {"ids": chosen.ids.tolist(), "weights": chosen.weights.astype(int).tolist(), "value": chosen.value}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def test_every_case_is_on_record(golden: dict[str, Any]) -> None:
    assert sorted(golden) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_picks_are_those_on_record(case: str, golden: dict[str, Any]) -> None:
    found = picks(case)
    assert found["ids"] == golden[case]["ids"]
    assert found["weights"] == golden[case]["weights"]
    assert found["value"] == pytest.approx(golden[case]["value"], rel=1e-6)  # costs are float32


@pytest.mark.slow
@pytest.mark.skipif("+avx512f" not in get_host_cpu_features(), reason="this processor's vectors are narrow")
def test_a_processor_of_narrower_vectors_picks_the_same(tmp_path: Path) -> None:
    features = re.sub(r"\+avx(512|10)", r"-avx\1", get_host_cpu_features())
    code = """
        import json, selection.panels, test_golden_picks as golden
        print(json.dumps([selection.panels.LANES, {case: golden.picks(case) for case in golden.CASES}]))
    """
    environment = {
        **os.environ,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])]),
    }
    command = [sys.executable, "-c", textwrap.dedent(code)]
    lanes, found = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert lanes == 8
    assert found == {case: picks(case) for case in CASES}


if __name__ == "__main__":
    lines = (f"{json.dumps(case)}: {json.dumps(picks(case))}" for case in CASES)
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
