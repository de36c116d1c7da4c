"""The exact values in tests/oracles are those that the scripts in tests/oracles/make compute."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ORACLES = Path(__file__).parent / "oracles"


def differences(stored: object, made: object, place: str = "") -> list[str]:
    """Places where a stored value is not the one that was made; what was made and not stored does not count."""
    if isinstance(stored, dict) and isinstance(made, dict):
        pairs = [(value, made.get(key), f"{place}/{key}") for key, value in stored.items()]
    elif isinstance(stored, list) and isinstance(made, list) and len(stored) == len(made):
        pairs = [(value, made[i], f"{place}/{i}") for i, value in enumerate(stored)]
    else:
        number = isinstance(stored, float) and isinstance(made, float)
        # scipy's minimizers stop at 1e-8 or so; all else is exact to rounding
        return [] if made == (pytest.approx(stored, rel=1e-7, abs=1e-9) if number else stored) else [place]
    return [line for one, other, name in pairs for line in differences(one, other, name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in ORACLES.glob("*.json")))
def test_an_oracle_file_is_what_its_script_computes(name, tmp_path):
    script = ORACLES / "make" / f"{name}.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True, cwd=script.parent)
    stored, made = (json.loads((folder / f"{name}.json").read_text()) for folder in (ORACLES, tmp_path))
    assert stored["cases"]
    for case, values in stored["cases"].items():
        assert differences({part: values[part] for part in ("inputs", "outputs")}, made["cases"][case], case) == []


def test_a_wrong_digit_is_a_difference():
    assert differences({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.00001, "c": 3.0}]}) == ["/a/1/b"]
    assert differences({"a": [1.0]}, {"a": [1.0, 2.0]}) == ["/a"]
    assert differences({"a": 1.0}, {}) == ["/a"]
