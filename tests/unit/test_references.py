"""What a configuration names outside itself must be there, before anything is started."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from click.testing import CliRunner

from farm.cli import root
from farm.config import Config
from farm.errors import ConfigError
from farm.models.depthnet import BUILT_IN
from farm.references import check_references


def problems(settings):
    try:
        check_references(Config.model_validate(settings))
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines()[1:]]
    return []


def test_what_is_built_in_is_there_and_torch_is_not_imported_for_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert problems({}) == []
    assert problems({"model": "rule"}) == []
    assert problems({"model": "farm.models.depthnet:DepthModel"}) == []
    assert "torch" not in sys.modules


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"model": "nope.mod:Cls"}, "model: nope.mod:Cls: there is no module nope.mod: "),
        ({"model": "nope:Cls"}, "model: nope:Cls: there is no module nope: "),
        (
            {"traffic": {"adapter": "farm.nope:X"}},
            "traffic.adapter: farm.nope:X: there is no module farm.nope: ",
        ),
        ({"model": "farm.errors.x:X"}, "model: farm.errors.x:X: there is no module farm.errors.x"),
    ],
)
def test_a_module_that_is_not_there_is_told_with_the_cure(settings, start):
    (told,) = problems(settings)
    assert told.startswith(start)
    assert "PYTHONPATH" in told


def test_a_module_is_found_but_not_run(tmp_path, monkeypatch):
    # prevents: seconds of imports in the supervisor, and a check that has effects
    (tmp_path / "own_model.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert problems({"model": "own_model:Model"}) == []


def test_a_module_that_only_lies_beside_the_caller_is_refused(tmp_path, monkeypatch):
    # prevents: accepting what workers can't import, since they don't look in the current folder
    (tmp_path / "beside_model.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (told,) = problems({"model": "beside_model:Model"})
    assert "put its folder on PYTHONPATH" in told


def test_a_package_that_fails_is_told_with_its_reason(tmp_path, monkeypatch):
    # prevents: "put it on PYTHONPATH" for a package that is there and lacks a library
    (tmp_path / "broken_pkg").mkdir()
    (tmp_path / "broken_pkg" / "__init__.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (told,) = problems({"model": "broken_pkg.model:Model"})
    assert "No module named 'no_such_library'" in told
    assert "PYTHONPATH" not in told


def test_every_file_that_is_not_there_is_told_at_once(tmp_path):
    gone = str(tmp_path / "gone")
    tls = {"enabled": True, "ca_file": gone, "cert_file": gone, "key_file": gone}
    broker = {"username_file": gone, "password_file": gone, "tls": tls}
    told = problems({"mqtt": {"broker": broker}, "model_settings": {"weights": gone}})
    keys = ["username_file", "password_file", "tls.ca_file", "tls.cert_file", "tls.key_file"]
    assert [line.partition(": ")[0] for line in told] == [
        *(f"mqtt.broker.{key}" for key in keys),
        "model_settings.weights",
    ]
    assert all("can't be read: No such file" in line and gone in line for line in told)


def test_files_that_are_there_or_will_not_be_read_are_fine(tmp_path):
    here = tmp_path / "here"
    here.write_text("x")
    broker = {"password_file": str(here), "tls": {"ca_file": "/nowhere"}}  # TLS is off
    own = {"model": "farm.errors:Own", "model_settings": {"weights": "a-name-in-a-registry"}}
    assert problems({"mqtt": {"broker": broker}, **own}) == []
    assert problems({"model_settings": {"weights": str(BUILT_IN)}}) == []


@pytest.mark.parametrize("weights", [5, ["a"], "a\0b"])
def test_weights_that_are_no_path_are_told(weights):
    (told,) = problems({"model_settings": {"weights": weights}})
    assert told.startswith("model_settings.weights: ")
    assert told.endswith("must be a path")


@pytest.mark.parametrize("command", [["config", "check"], ["start"], ["broker"]])
def test_each_command_that_runs_a_farm_refuses_it_before_it_touches_anything(tmp_path, command):
    # prevents: a farm that starts, fails in every worker and ends half a minute later
    file, state = tmp_path / "farm.yaml", tmp_path / "state"
    file.write_text("model: nope.mod:Cls\n")
    done = CliRunner().invoke(root, [*command, "-c", str(file), "--state-dir", str(state)])
    assert isinstance(done.exception, ConfigError), done.output
    assert "nope.mod:Cls" in str(done.exception)
    assert not state.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mqtt: {processing: {model_id: 0}}\n", "0 is not allowed: must be at least 1"),
        ("mqtt: {processing: {model_id: 5}}\n", "there is no built-in model 5: choose one of 1, 2"),
        ("mqtt: {processing: {model_id: 5, models_dir: /nowhere}}\n", "and none in /nowhere"),
        ("model: nope\n", "package.module:Class"),
        ("model_settings: {runtim: int8}\n", "model_settings: 'runtim' is unknown"),
        ("model_settings: {runtime: fast}\n", "model_settings: runtime 'fast' is unknown"),
        ("model_settings: {min_quality: 7}\n", "model_settings: min_quality is 7"),
        ("traffic: {adapter: 'a.b:'}\n", "package.module:Class"),
    ],
)
def test_a_model_that_can_not_be_is_refused(tmp_path, text, words):
    file = tmp_path / "farm.yaml"
    file.write_text(text)
    done = CliRunner().invoke(root, ["config", "check", "-c", str(file)])
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)


def test_ray_that_is_not_installed_is_said_before_anything_starts(monkeypatch):
    # prevents: a farm that starts, and whose workers never come
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else found(name)
    )
    settings = {
        "workers": {"launch": "ray"},
        "attach": {"listen": "*:7003"},
        "ray": {"key_file": "/mnt/ray.key"},
    }
    [line] = problems(settings)
    assert line.startswith("workers.launch: ray is not installed here: pip install 'farm[ray]'")
