"""Model loading: what a configuration may name, and what is said when it is wrong."""

from __future__ import annotations

import json
import shutil
import sys
import types

import pytest

from farm.errors import ConfigError, ModelError
from farm.models.depthnet import DepthModel
from farm.models.package import MANIFEST
from farm.models.registry import LIBRARY, load_model, model_folders
from farm.models.rule import GradientRule


class Own:
    version = "own-1"
    content_hash = "0"

    def __init__(self, settings):
        self.settings = settings
        if settings.get("fail"):
            raise ZeroDivisionError("no luck")

    def warm_up(self):
        pass

    def infer(self, inputs):
        return [None for _ in inputs]


class Half:
    version = "half-1"

    def __init__(self, settings):
        pass

    def infer(self, inputs):
        return inputs


@pytest.fixture(autouse=True)
def own_module(monkeypatch):
    module = types.ModuleType("own_models")
    module.Own, module.Half = Own, Half
    monkeypatch.setitem(sys.modules, "own_models", module)


@pytest.mark.parametrize("model_id", [2, 3, 4])
def test_the_replaced_systems_ids_select_the_network(model_id):
    # Prevents a configuration that worked for years from being refused.
    assert isinstance(load_model("", model_id, {}), DepthModel)


def test_the_rule_has_an_id():
    # Prevents a baseline that nobody can compare with.
    assert isinstance(load_model("", 1, {}), GradientRule)


@pytest.mark.parametrize("model_id", [0, 5, -1])
def test_another_id_is_refused_with_what_is_allowed(model_id):
    # Prevents a typing error from silently choosing a model.
    with pytest.raises(ModelError, match="1, 2, 3, 4"):
        load_model("", model_id, {})


def test_a_sites_own_models_are_found_by_their_numbers_and_win(tmp_path):
    # Prevents a retrained model that can only be named by a path.
    shutil.copytree(LIBRARY / "4", tmp_path / "7")
    shutil.copytree(LIBRARY / "1", tmp_path / "4")
    (tmp_path / "notes").mkdir()
    shutil.copytree(LIBRARY / "4", tmp_path / "08")
    assert list(model_folders(tmp_path)) == [1, 4, 7], "08 is nobody's number"
    assert isinstance(load_model("", 7, {}, tmp_path), DepthModel)
    assert isinstance(load_model("", 4, {}, tmp_path), GradientRule)
    assert isinstance(load_model("depthnet", 4, {}, tmp_path), DepthModel), "a name means ours"


@pytest.mark.parametrize("empty", [None, ""])
def test_weights_without_a_value_are_those_of_the_id(tmp_path, empty):
    # Prevents model 7 from being answered by the built-in one.
    folder = shutil.copytree(LIBRARY / "4", tmp_path / "7")
    told = json.loads((folder / MANIFEST).read_text()) | {"name": "own-7"}
    (folder / MANIFEST).write_text(json.dumps(told))
    assert load_model("", 7, {"weights": empty}, tmp_path).version == "own-7"


def test_a_manifest_can_not_choose_what_code_is_run(tmp_path):
    # Prevents a folder of data from naming a class to import.
    folder = shutil.copytree(LIBRARY / "1", tmp_path / "9")
    told = json.loads((folder / MANIFEST).read_text())
    told["architecture"]["kind"] = "os:system"
    (folder / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(ModelError, match="of the kind 'os:system'"):
        load_model("", 9, {}, tmp_path)


def test_names_select_the_built_in_models_whatever_the_id():
    # Prevents the id from overruling an explicit name.
    assert isinstance(load_model("depthnet", 99, {}), DepthModel)
    assert isinstance(load_model("rule", 99, {}), GradientRule)


def test_a_class_of_ones_own_gets_its_settings():
    # Prevents settings from being lost on the way.
    assert load_model("own_models:Own", 1, {"a": 1}).settings == {"a": 1}


def test_what_a_constructor_raises_is_kept_as_the_cause():
    # Prevents a worker that dies of a bare ZeroDivisionError nobody can place.
    with pytest.raises(ModelError, match=r"own_models:Own.*no luck") as caught:
        load_model("own_models:Own", 1, {"fail": True})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_class_that_is_no_model_is_told_what_it_lacks():
    # Prevents a worker that is READY and fails at its first job.
    with pytest.raises(ModelError, match="lacks content_hash, warm_up"):
        load_model("own_models:Half", 1, {})


@pytest.mark.parametrize("spec", ["nonsense", "own_models:Missing", "no_such_package:Model"])
def test_a_spec_that_names_nothing_is_a_configuration_error(spec):
    # Prevents a traceback where one line would do.
    with pytest.raises(ConfigError, match="model"):
        load_model(spec, 1, {})
