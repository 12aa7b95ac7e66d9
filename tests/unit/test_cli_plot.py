"""`farm plot`: every hole can be drawn, on any terminal, and says what it shows."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from farm.cli.plot import command
from farm.drilling import plotting
from farm.drilling.hole import Hole
from farm.drilling.plotting import draw_hole, hole_figure
from farm.drilling.terminal import hole_text
from farm.errors import ExitCode, FarmError
from farm.models.model import Insufficient, depth_answer
from farm.models.registry import LIBRARY
from farm.simulation.archive import TRACE_FILE, write_archive
from farm.simulation.drilled import Recipe, drill

ANSWER = depth_answer(
    [5.02, 14.9, 18.3], sigma_mm=[0.04, 0.06, 0.9], quality=0.97, tip_mm=[4.9, 14.8, 17.9]
)
TRUTH = (5.0, math.nan, 18.2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """01-MDB-2025-03, 02-V6-V7-single-2025-06 and their index."""
    folder = tmp_path_factory.mktemp("holes")
    recipes = (Recipe("MDB", "2025-03"), Recipe("V6-V7", "2025-06", single_step=True))
    write_archive(folder, [drill(recipe, seed=7) for recipe in recipes])
    return folder


@pytest.fixture(scope="module")
def hole():
    return drill(Recipe("MDB", "2025-03"), seed=7).truth.hole


def small_hole(samples=1, level=0.0):
    number = np.ones(samples, np.int16)
    level = np.full(samples, level, np.float32)
    return Hole(level + 1, level, level, number, ())


def run(*words, columns=80):
    return CliRunner().invoke(
        command, [*map(str, words)], env={"COLUMNS": str(columns), "LINES": "30"}
    )


def test_the_image_shows_the_whole_hole_and_each_keypoint(archive, tmp_path):
    # prevents: an empty page that nobody looks at until an expert needs it
    out = tmp_path / "hole.png"
    done = run(archive / "01-MDB-2025-03", "--model", "rule", "--truth", "--out", out)
    assert done.exit_code == 0, done.output
    assert "wrote" in done.output
    assert "depth" in done.output
    payload = out.read_bytes()
    assert payload.startswith(b"\x89PNG")
    width, height = (int.from_bytes(payload[i : i + 4], "big") for i in (16, 20))
    assert width > 1000
    assert height > 600
    assert len(payload) > 40_000


def test_the_figure_has_a_zoom_for_each_keypoint_and_says_all(hole):
    # prevents: labels without their uncertainty, or an outcome that is nowhere
    figure = hole_figure(hole, ANSWER, TRUTH, title="hole 7")
    assert figure.get_suptitle() == "hole 7"
    overview, *rest = [axes for axes in figure.axes if axes.get_ylabel() == "torque in A"]
    texts = {text.get_text() for text in overview.texts}
    assert "entry 5.02 ± 0.04 mm" in texts
    assert [axes.get_title() for axes in rest] == [
        "entry 5.02 ± 0.04 mm  reference 5.00 (+0.02)",
        "transition 14.90 ± 0.06 mm",
        "exit 18.30 ± 0.90 mm  reference 18.20 (+0.10)",
    ]
    shaded = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert any(words.startswith("step 2\ntorque minimum") for words in shaded)


def test_a_hole_without_an_answer_is_drawn_with_the_reason(archive, hole, tmp_path):
    # prevents: the very holes that people want to look at being refused
    out = tmp_path / "hole.png"
    done = run(archive, "02", "--out", out)
    assert "insufficient: Not enough steps" in done.output
    assert out.stat().st_size > 20_000
    figure = hole_figure(hole, Insufficient("Air drilling"))
    assert figure.get_suptitle() == "insufficient: Air drilling"
    assert len(figure.axes) == 2


def test_many_holes_fit_on_one_page_of_the_callers(hole):
    # prevents: a drawing that only works on a page of its own
    figure = Figure()
    for axes, by in zip(figure.subplots(2, 1), ("position", "time"), strict=True):
        draw_hole(axes, hole, ANSWER, truth=TRUTH, by=by)
    figure.canvas.draw()
    assert len(figure.axes) == 4


@pytest.mark.parametrize("samples", [1, 2, 18])
@pytest.mark.parametrize("level", [0.0, -3.0, 1e4])
def test_the_oddest_hole_is_drawn(samples, level):
    # prevents: a fragment or a dead channel that ends in a traceback about limits
    odd = small_hole(samples, level)
    for by in ("position", "time"):
        hole_figure(odd, ANSWER, TRUTH, by=by).canvas.draw()
        assert "│" in hole_text(odd, ANSWER, TRUTH, width=80, height=24, by=by)


@pytest.mark.parametrize("width", [50, 80, 160])
@pytest.mark.parametrize("by", ["position", "time"])
def test_the_terminals_width_and_height_are_kept(hole, width, by):
    # prevents: wrapped lines, which make a drawing unreadable
    text = hole_text(hole, ANSWER, TRUTH, width=width, height=30, by=by)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 30
    assert "entry 5.02" in text
    assert "⣿ torque A" in text
    assert any(
        "\N{BRAILLE PATTERN BLANK}" < char < "\N{BRAILLE PATTERN DOTS-12345678}" for char in text
    )
    assert "\x1b" not in text


def test_colours_are_for_terminals_alone(archive, hole):
    # prevents: escape codes in a file or a ticket
    assert "\x1b[" in hole_text(hole, ANSWER, width=80, height=24, colour=True)
    assert "\x1b" not in run(archive, "01").output


@pytest.mark.parametrize("columns", [80, 160])
def test_the_command_fits_the_terminal(archive, columns):
    # prevents: a title or a reason that is longer than the screen is wide
    done = run(archive, "01", "--model", "rule", "--truth", columns=columns)
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= columns
    assert len(done.output.splitlines()) < 30
    assert "01-MDB-2025-03, model rule-2" in done.output
    assert "reference" in done.output


def copy_hole(archive, folder):
    shutil.copytree(archive / "01-MDB-2025-03", folder)
    return folder


def test_a_hole_that_the_index_does_not_name_is_drawn_without(archive, tmp_path):
    # prevents: --truth in a script that stops at the first hole that nobody labelled
    (tmp_path / "index.csv").write_text("hole,entry_mm,transition_mm,exit_mm\nother,1,2,3\n")
    done = run(copy_hole(archive, tmp_path / "lonely"), "--truth", "--model", "rule")
    assert done.exit_code == 0, done.output
    assert "does not name lonely" in done.output
    assert "reference 1.00" not in done.output


@pytest.mark.parametrize("index", ["hole,entry_mm,transition_mm,exit_mm\n01,deep,,3\n", "\xff"])
def test_an_index_that_can_not_be_read_is_named(archive, tmp_path, index):
    # prevents: a picture without references, taken for one of a hole that has none
    (tmp_path / "index.csv").write_text(index, encoding="latin-1")
    done = run(copy_hole(archive, tmp_path / "01"), "--truth", "--model", "rule")
    assert isinstance(done.exception, FarmError)
    assert "index.csv" in str(done.exception)


def test_the_exit_of_the_tip_serves_as_reference(archive, tmp_path):
    # prevents: recorded archives, whose index has exit_tip_mm, drawn without their exit
    (tmp_path / "index.csv").write_text("hole,entry_mm,transition_mm,exit_tip_mm\n01,3.21,,17.65\n")
    done = run(copy_hole(archive, tmp_path / "01"), "--truth", "--model", "rule", columns=160)
    assert "reference 3.21" in done.output
    assert "reference 17.65" in done.output


def test_a_models_folder_may_be_of_any_kind(archive):
    # prevents: a rule's folder opened for weights that it never had
    for folder, version in ((LIBRARY / "1", "rule-2"), (LIBRARY / "4", "depthnet-2")):
        done = run(archive, "01", "--model", folder)
        assert done.exit_code == 0, done.output
        assert f"model {version}" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{archive}"], "several holes: name one of 01-MDB-2025-03, 02-"),
        (["{archive}", "03"], "no hole 03: name one of 01-"),
        (["{archive}/nowhere"], "name the folder of a hole"),
        (["{empty}"], "no hole found"),
        (["{archive}", "01", "--model", "best"], "neither a number, nor a folder"),
        (["{archive}", "01", "--model", "77"], "there is no built-in model 77"),
        (["{archive}", "01", "--model", "rule", "--out", "{empty}/no/x.png"], "--out"),
    ],
)
def test_what_can_not_be_drawn_is_told_clearly(archive, tmp_path, words, told):
    # prevents: tracebacks for typing errors
    done = run(*(word.format(archive=archive, empty=tmp_path) for word in words))
    assert isinstance(done.exception, FarmError), done.output
    assert told in str(done.exception)


def test_a_missing_message_is_named(archive, tmp_path):
    # prevents: "no such file" without which
    (tmp_path / "ResultManagement.json").write_bytes(
        (archive / "01-MDB-2025-03" / "ResultManagement.json").read_bytes()
    )
    done = run(tmp_path)
    assert isinstance(done.exception, FarmError)
    assert TRACE_FILE in str(done.exception)


def test_only_png_is_written(archive):
    # prevents: an image in a file whose name says that it is another kind
    done = run(archive, "01", "--out", "hole.svg")
    assert done.exit_code == ExitCode.USAGE
    assert ".png" in done.output


@pytest.mark.parametrize(
    ("package", "words"), [("matplotlib", ["--out", "x.png"]), ("plotext", [])]
)
def test_a_missing_extra_is_named_with_the_cure(archive, monkeypatch, package, words):
    # prevents: ModuleNotFoundError for who installed farm without its plots
    monkeypatch.setattr(plotting.importlib.util, "find_spec", lambda _name: None)
    done = run(archive, "01", "--model", "rule", *words)
    assert isinstance(done.exception, FarmError)
    assert f"needs {package}: pip install 'farm[plots]'" in str(done.exception)


@pytest.mark.parametrize("words", [["--help"], ["plot", "--help"], ["models", "--help"]])
def test_help_answers_at_once(words):
    # prevents: seconds of imports before a list of commands
    program = (
        "import sys\nfrom farm.cli import root\n"
        f"root.main({words}, standalone_mode=False)\n"
        "slow = {'torch', 'numpy', 'matplotlib', 'plotext', 'rich'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_drawing_leaves_matplotlibs_global_state_alone():
    # prevents: windows, leaked figures and a changed backend in a program that draws reports
    program = (
        "import sys, numpy as np\n"
        "from farm.drilling.hole import Hole\n"
        "from farm.drilling.plotting import hole_figure, write_png\n"
        "from farm.models.model import Insufficient\n"
        "x = np.linspace(0, 9, 50, dtype=np.float32)\n"
        "hole = Hole(x, x, x, np.ones(50, np.int16), ())\n"
        "import pathlib, tempfile\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'x.png'\n"
        "write_png(hole_figure(hole, Insufficient('none')), path)\n"
        "assert path.stat().st_size > 1000\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
