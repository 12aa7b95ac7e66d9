"""`farm models`: a damaged model is found and named, and runtimes are compared honestly."""

from __future__ import annotations

import json
import math
import shutil

import pytest
from click.testing import CliRunner

from farm.cli.models import command
from farm.errors import ExitCode, ModelError
from farm.models.package import CARD, INT8, MANIFEST, WEIGHTS, Manifest, write_package
from farm.models.registry import DEFAULT_ID, LIBRARY


@pytest.fixture
def models_dir(tmp_path):
    """A site's own models: number 9, a copy of the built-in network without its int8 form."""
    folder = tmp_path / "9"
    shutil.copytree(LIBRARY / str(DEFAULT_ID), folder)
    (folder / INT8).unlink(missing_ok=True)
    edit_manifest(folder, lambda told: told["sha256"].pop(INT8, None))
    return tmp_path


def edit_manifest(folder, edit):
    told = json.loads((folder / MANIFEST).read_bytes())
    edit(told)
    (folder / MANIFEST).write_text(json.dumps(told))


def run(*words, models_dir=None, **more):
    options = ["--models-dir", str(models_dir)] if models_dir else []
    return CliRunner().invoke(command, [*options, *words], env={"COLUMNS": "160"}, **more)


def test_the_list_has_the_default_and_the_former_systems_numbers(models_dir):
    # prevents: a user of model_id 3 who can't find out what answers
    done = run("list", models_dir=models_dir)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert any(line.split()[0] == "4" and line.endswith("default") for line in lines)
    assert any(line.split()[0] == "9" for line in lines)
    assert "2 and 3 also mean 4" in done.output


def test_the_list_tells_the_hash_that_is_published(models_dir):
    # prevents: a ModelHash in an answer that can't be found in any list
    rows = {
        row["id"]: row for row in json.loads(run("list", "--json", models_dir=models_dir).output)
    }
    manifest = json.loads((models_dir / "9" / MANIFEST).read_bytes())
    assert rows[9]["hash"] == manifest["sha256"][WEIGHTS][:16]
    assert rows[9]["bytes"] >= (models_dir / "9" / WEIGHTS).stat().st_size
    assert rows[1]["kind"] == "rule"
    assert len(rows[1]["hash"]) == 16
    assert rows[4]["is_default"]
    assert rows[4]["aliases"] == [2, 3]


def test_one_broken_manifest_hides_no_other_model(models_dir):
    # prevents: a typing error in one folder after which no model can be listed or verified
    (models_dir / "9" / MANIFEST).write_text("{")
    listed = run("list", models_dir=models_dir)
    assert listed.exit_code == 0
    assert "unusable" in listed.output
    verified = run("verify", "--hashes-only", models_dir=models_dir)
    assert verified.exit_code == ExitCode.MODEL
    assert "  4  " in verified.output
    assert "is no manifest" in verified.output


def test_the_folder_may_come_from_the_configuration(models_dir):
    # prevents: a list that is not that of the farm that was configured
    config = models_dir / "farm.yaml"
    config.write_text(f"mqtt: {{processing: {{models_dir: {models_dir}}}}}\n")
    done = CliRunner().invoke(command, ["-c", str(config), "list", "--json"])
    assert 9 in {row["id"] for row in json.loads(done.output)}


def test_help_needs_no_configuration():
    # prevents: help that is refused because of the very thing that one seeks help for
    done = CliRunner().invoke(command, ["-c", "/nowhere.yaml", "verify", "--help"])
    assert done.exit_code == 0


def test_show_has_the_metrics_the_files_and_the_card(models_dir):
    # prevents: a card that nobody reads since nobody finds it
    metrics = {"MDB": {"entry_mm": [0.0213, 0.1], "wrong": 0.01}, "all": {"entry_mm": [0.03, 0.2]}}
    edit_manifest(models_dir / "9", lambda told: told.update(metrics=metrics))
    (models_dir / "9" / CARD).write_text("# My card\n\n* made of holes\n")
    told = run("show", "9", models_dir=models_dir).output
    for words in ("depthnet", "MDB", "0.021/0.1", WEIGHTS, "My card", "made of holes"):
        assert words in told
    assert "# My card" not in told
    assert (
        json.loads(run("show", "9", "--json", models_dir=models_dir).output)["metrics"] == metrics
    )


def test_show_without_a_card_says_so(models_dir):
    # prevents: a traceback for a model that somebody made by hand
    (models_dir / "9" / CARD).unlink(missing_ok=True)
    done = run("show", "9", models_dir=models_dir)
    assert done.exit_code == 0
    assert "no card" in done.output


def test_whole_models_are_verified_and_run(models_dir):
    # prevents: a check that finds fault with what is shipped
    done = run("verify", models_dir=models_dir)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()] == ["1", "4", "9"]
    assert all("OK" in line and "it runs" in line for line in done.output.splitlines())


def test_a_flipped_bit_is_found_and_the_others_are_still_checked(models_dir):
    # prevents: weights that rotted on the disk and go on answering
    path = models_dir / "9" / WEIGHTS
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    done = run("verify", "9", "4", "--hashes-only", models_dir=models_dir)
    assert done.exit_code == ExitCode.MODEL
    bad, good = done.output.splitlines()
    assert "FAILED" in bad
    assert str(path) in bad
    assert "restore the folder" in bad
    assert "OK" in good


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_a_missing_file_is_named_with_what_to_do(models_dir, name):
    # prevents: a half-copied model that is passed over in silence
    (models_dir / "9" / name).unlink()
    done = run("verify", models_dir=models_dir)
    assert done.exit_code == ExitCode.MODEL
    (bad,) = (line for line in done.output.splitlines() if line.split()[0] == "9")
    assert name in bad
    assert "restore the folder" in bad


def test_weights_of_another_network_are_found_by_loading_them(models_dir):
    # prevents: a manifest made for the wrong weights, whose hashes are all right
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    numpy = pytest.importorskip("numpy")
    payload = safetensors_numpy.save({"other": numpy.zeros(3, numpy.float32)})
    manifest = Manifest(name="other", architecture={"kind": "depthnet"}, sha256={})
    write_package(models_dir / "9", {WEIGHTS: payload}, manifest)
    assert run("verify", "9", "--hashes-only", models_dir=models_dir).exit_code == 0
    done = run("verify", "9", models_dir=models_dir)
    assert done.exit_code == ExitCode.MODEL
    assert "do not fit this network" in done.output


def test_an_unknown_number_is_refused_with_those_there_are():
    # prevents: a typing error answered by another model
    done = run("show", "77")
    assert isinstance(done.exception, ModelError)
    assert "1, 2, 3, 4" in str(done.exception)


def test_the_bench_measures_what_is_there_and_says_why_the_rest_is_not(models_dir):
    # prevents: a table that leaves out a runtime without a word, or that can't be read as JSON
    words = (
        "bench",
        "9",
        "--holes",
        "4",
        "--batch",
        "1,2",
        "--runtime",
        "frozen",
        "--runtime",
        "int8",
    )
    told = json.loads(run(*words, "--json", models_dir=models_dir).output)
    frozen, int8 = told["runtimes"]
    assert set(frozen["hole_ms"]) == set(told["prepare_ms"]) == {"1", "2"}
    assert all(ms > 0 for ms in frozen["hole_ms"].values())
    assert frozen["memory_mb"] > 1
    assert frozen["load_s"] > 0
    assert frozen["loss"]["largest_mm"] < 0.01
    assert math.isfinite(frozen["loss"]["error_change_mm"])
    assert INT8 in int8["reason"]
    assert int8["loss"] is None


def test_the_bench_as_markdown_is_a_table_with_the_reasons_below(models_dir):
    # prevents: documents with tables that were typed by hand
    words = ("bench", "9", "--holes", "2", "--batch", "1", "--runtime", "int8", "--markdown")
    lines = run(*words, models_dir=models_dir).output.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert any(row.startswith("| int8 |") for row in rows)
    assert any(line.startswith("* int8 is not to be had here: ") for line in lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--batch", "1,x"], "1,8,32"),
        (["--batch", "0"], "1,8,32"),
        (["--runtime", "fast"], "frozen"),
    ],
)
def test_the_bench_refuses_what_it_does_not_know(words, told):
    # prevents: minutes of measuring something else
    done = run("bench", *words)
    assert done.exit_code == ExitCode.USAGE
    assert told in done.output


def test_the_bench_refuses_a_rule():
    # prevents: an error from deep inside, about a file that a rule never has
    done = run("bench", "1")
    assert isinstance(done.exception, ModelError)
    assert "only depth networks" in str(done.exception)


def test_the_calibration_is_made_anew_shown_and_kept(tmp_path, monkeypatch):
    # prevents: a default that nobody can look into, or that can't be measured again
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    lines = run("bench", "--calibrate").output.splitlines()
    taken = lines[0].split()[3]
    assert lines[0].startswith("runtime: auto takes ")
    rows = {line.split()[0]: line for line in lines[1:]}
    assert set(rows) == {"onnx", "frozen", "int8"}
    assert "taken: " in rows[taken]
    assert all("ms at 1" in row and "off by" in row for row in rows.values())
    [kept] = (tmp_path / "farm").glob("runtime-*.json")
    told = json.loads(run("bench", "--calibrate", "--json").output)
    assert told["runtime"] in rows
    assert json.loads(kept.read_text())["made_s"] == told["made_s"]
