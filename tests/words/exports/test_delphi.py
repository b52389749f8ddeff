"""Files as delphi leaves them, held to its own fields."""

import json
import math
from typing import Literal

import pytest
from planted_units import HOSTILE, SITE, hostile_head, hostile_unit, units
from pydantic import BaseModel, ConfigDict, TypeAdapter

from pellucid.errors import BadInput
from pellucid.words.exports import write_delphi

STRICT = ConfigDict(extra="forbid", strict=True)


class Sequence(BaseModel):
    model_config = STRICT
    tokens: list[str]
    true_activations: list[float]
    predicted_activations: list[float]
    ev_correlation_score: float | Literal["nan"]
    rsquared_score: float
    absolute_dev_explained_score: float


class Simulation(BaseModel):
    model_config = STRICT
    distance: int
    ev_correlation_score: float
    rsquared_score: float
    absolute_dev_explained_score: float
    scored_sequence_simulations: list[Sequence]


class Classified(BaseModel):
    model_config = STRICT
    str_tokens: list[str]
    activations: list[float]
    distance: float
    activating: bool
    prediction: bool | None
    probability: float | None
    correct: bool | None


def read(path, kind):
    return TypeAdapter(kind, config=None).validate_json(path.read_bytes())


def test_files_and_schema(tmp_path):
    assert write_delphi(units(4), tmp_path) == 3
    names = [f"{SITE.replace(':', '--')}_latent{i}.txt" for i in range(3)]
    for folder in ("explanations", "scores/simulation", "scores/detection"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    assert read(tmp_path / "explanations" / names[1], str) == '1.5 where current in {" the"}; 0 otherwise'
    (simulation,) = read(tmp_path / "scores/simulation" / names[1], list[Simulation])
    assert simulation.ev_correlation_score == 0.6
    assert simulation.scored_sequence_simulations[0].ev_correlation_score == pytest.approx(1.0)
    assert simulation.scored_sequence_simulations[0].predicted_activations == [0.0, 1.0, 0.0]
    (detection,) = read(tmp_path / "scores/detection" / names[1], list[Classified])
    assert (detection.activating, detection.prediction, detection.correct) == (True, True, True)
    assert detection.str_tokens == [" on", " the", " mat"]


def test_hostile_text_survives(tmp_path):
    write_delphi([hostile_unit()], tmp_path)
    (explanation,) = (tmp_path / "explanations").iterdir()
    (score,) = (tmp_path / "scores/detection").iterdir()
    expected = [text.replace("\ud800", "\\ud800") for text in HOSTILE]
    top, random = read(score, list[Classified])
    assert top.str_tokens == expected
    assert (random.activating, random.prediction, random.correct) == (False, False, True)
    assert all(text in read(explanation, str) for text in expected)
    assert explanation.read_bytes().isascii()


def test_names_stay_in_the_folder(tmp_path):
    write_delphi([hostile_unit(3, "../../etc/x\n\ud800:latents")], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out" / "explanations").iterdir())) == 1


def test_no_score_no_file_and_no_folder(tmp_path):
    assert write_delphi(units(3)[-1:], tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_delphi(units(3), tmp_path / "file")


def test_no_number_that_json_has_not(tmp_path):
    write_delphi(units(4), tmp_path)
    for path in tmp_path.rglob("*.txt"):
        json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(text))
    assert math.isnan(units(3)[-1].r)


def test_heads_have_no_detection(tmp_path):
    assert write_delphi([hostile_head()], tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explanations", "scores"]
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["simulation"]
    (file,) = (tmp_path / "scores/simulation").iterdir()
    (simulation,) = read(file, list[Simulation])
    assert simulation.ev_correlation_score == 0.9
