"""The configuration: precedence, origins, every kind of mistake, and the former system's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from farm.cli.config import command
from farm.config import Config, load_config
from farm.config.credentials import read_credentials
from farm.config.environment import variable
from farm.config.file import plain_value, read_file
from farm.config.keys import tree
from farm.config.show import schema, shown, value_of, worker_view
from farm.errors import ConfigError, ExitCode

ROOT = Path(__file__).parents[2]

# A file as the former system's users have it, all of its keys, in its own habits.
LEGACY = """\
mqtt:
  broker:
    host: mqtt.site.example
    port: 1884
    username: depth
    password: hunter2
    keepalive: 30
  listener:
    root: OPCPUBSUB
    toolboxid: 0012
    toolid: +
    result: ResultManagement
    trace: ResultManagement/Traces
    heads: AssetManagement/Heads
    duplicate_handling: replace
    duplicate_time_window: 2.0
    time_window: 45
    cleanup_interval: 20
    max_buffer_size: 5000
  data_ids:
    machine_id: 'ResultManagement.Results.0.ResultMetaData.SerialNumber'
    head_id: 'AssetManagement.Assets.Heads.0.Identification.SerialNumber'
    result_id: 'ResultManagement.Results.0.ResultMetaData.ResultId'
    trace_result_id: 'ResultManagement.Results.0.ResultContent.Trace.StepTraces.PositionTrace.StepResultId'
    position: 'ResultManagement.Results.0.ResultContent.Trace.StepTraces.PositionTrace.StepTraceContent[0].Values'
    thrust: 'ResultManagement.Results.0.ResultContent.Trace.StepTraces.IntensityThrustTrace.StepTraceContent[0].Values'
    torque: 'ResultManagement.Results.0.ResultContent.Trace.StepTraces.IntensityTorqueTrace.StepTraceContent[0].Values'
    step: 'ResultManagement.Results.0.ResultContent.Trace.StepTraces.StepNumberTrace.StepTraceContent[0].Values'
    torque_empty_vals: 'ResultManagement.Results.0.ResultContent.StepResults.0.StepResultValues.IntensityTorqueEmpty'
    thrust_empty_vals: 'ResultManagement.Results.0.ResultContent.StepResults.0.StepResultValues.IntensityThrustEmpty'
    step_vals: 'ResultManagement.Results.0.ResultContent.StepResults.0.StepResultValues.StepNumber'
  estimation:
    keypoints: ResultManagement.Results.0.ResultContent.DepthEstimation.KeyPoints
    depth_estimation: ResultManagement.Results.0.ResultContent.DepthEstimation.DepthEstimation
  processing:
    workers: 6
    model_id: 3
  depth_validation:
    negative_depth_behavior: warning
    track_sequential_negatives: false
    sequential_threshold: 7
    sequential_window_minutes: 10
  publisher:
    queue_size: 100
    retry: [1, 2, 3]
    password: geheim
"""  # noqa: E501 - the paths are that long


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "farm.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def problems(path, overrides=None, environ=None):
    """The lines of the error of a configuration, without its headline and the folder's name."""
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides or {}, environ or {})
    text = str(raised.value)
    if path is not None:
        text = text.replace(str(path), "FILE")
    return [line.strip() for line in text.splitlines()[1:]]


# Where values come from


def test_nothing_given_is_the_defaults():
    loaded = load_config(None, {}, {})
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}
    assert (loaded.notes, loaded.path) == ((), None)


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "---\n", "mqtt:\n", "mqtt:\n  broker:\n"]
)
def test_an_empty_file_is_the_defaults(write, text):
    assert load_config(write(text), {}, {}).config == Config()


def test_precedence_and_origins(write):
    path = write("mqtt:\n  processing: {workers: 2}\nlimits:\n  samples: 50\n  id_chars: 20\n")
    environ = {"FARM_LIMITS__SAMPLES": "60", "FARM_MQTT__PROCESSING__WORKERS": "3"}
    loaded = load_config(path, {"mqtt.processing.workers": 4, "log.level": None}, environ)
    assert loaded.config.mqtt.processing.workers == 4
    assert loaded.config.limits.samples == 60
    assert loaded.config.limits.id_chars == 20
    assert loaded.origins["mqtt.processing.workers"] == "command line"
    assert loaded.origins["limits.samples"] == "environment FARM_LIMITS__SAMPLES"
    assert loaded.origins["limits.id_chars"] == f"file {path}:5"
    assert loaded.origins["log.level"] == "default"
    assert set(loaded.origins) == set(tree().leaves)


def test_every_key_has_its_environment_variable():
    """A key that the environment could not reach would need a file in a container."""
    for key, leaf in tree().leaves.items():
        if isinstance(leaf.default, int) and not isinstance(leaf.default, bool):
            loaded = load_config(None, {}, {variable(key): str(leaf.default)})
            assert loaded.origins[key] == f"environment {variable(key)}"


def test_environment_of_the_former_system_and_short_names_yield_to_full_names():
    legacy = {
        "MQTT_BROKER_HOST": "a",
        "MQTT_BROKER_PORT": "1999",
        "MQTT_BROKER_USERNAME": "u",
        "MQTT_BROKER_PASSWORD": "p",
        "MODEL_ID": "2",
        "LOG_LEVEL": "warn",
    }
    config = load_config(None, {}, legacy).config
    broker = config.mqtt.broker
    assert (broker.host, broker.port, broker.username) == ("a", 1999, "u")
    assert broker.password.get_secret_value() == "p"
    assert (config.mqtt.processing.model_id, config.log.level) == (2, "WARNING")

    full = {"FARM_MQTT__BROKER__HOST": "b", "FARM_WORKERS": "3", "FARM_LOG__LEVEL": "debug"}
    config = load_config(None, {}, {**legacy, **full}).config
    assert (config.mqtt.broker.host, config.log.level) == ("b", "DEBUG")
    assert config.mqtt.processing.workers == 3
    long = {**full, "FARM_MQTT__PROCESSING__WORKERS": "5"}
    assert load_config(None, {}, long).config.mqtt.processing.workers == 5


def test_empty_variables_are_unset_where_text_can_not_be_empty():
    """Compose files pass variables on that nobody set."""
    environ = {"MQTT_BROKER_HOST": "", "FARM_STATE_DIR": "", "FARM_WORKERS": ""}
    assert load_config(None, {}, environ).config == Config()


def test_settings_come_from_the_environment_as_json():
    environ = {"FARM_MODEL_SETTINGS": '{"scale": 2, "names": ["a"]}'}
    assert load_config(None, {}, environ).config.model_settings == {"scale": 2, "names": ["a"]}


def test_the_environment_names_the_file_and_the_option_wins(write, tmp_path):
    named = tmp_path / "named.yaml"
    named.write_text("instance: named\n")
    environ = {"FARM_CONFIG": str(named)}
    loaded = load_config(None, {}, environ)
    assert (loaded.config.instance, loaded.path) == ("named", named)
    assert load_config(write("instance: given\n"), {}, environ).config.instance == "given"


def test_launcher_variables_are_known():
    assert load_config(None, {}, {"FARM_VENV": "/x", "FARM_PYTHON": "y"}).config == Config()


# The former system


def test_a_file_of_the_former_system_runs_unchanged(write):
    path = write(LEGACY)
    loaded = load_config(path, {}, {})
    mqtt = loaded.config.mqtt
    assert (mqtt.broker.host, mqtt.broker.port, mqtt.broker.keepalive) == (
        "mqtt.site.example",
        1884,
        30,
    )
    assert (mqtt.broker.username, mqtt.broker.password.get_secret_value()) == ("depth", "hunter2")
    assert (mqtt.listener.toolboxid, mqtt.listener.toolid) == ("0012", "+")  # not octal 10
    assert (mqtt.listener.duplicate_handling, mqtt.listener.time_window) == ("replace", 45.0)
    assert (mqtt.processing.workers, mqtt.processing.model_id) == (6, 3)
    assert mqtt.depth_validation.negative_depth_behavior == "warning"
    assert mqtt.depth_validation.sequential_window_minutes == 10.0
    assert not mqtt.depth_validation.track_sequential_negatives
    line = LEGACY.splitlines().index("  publisher:") + 1
    assert loaded.notes == (
        f"mqtt.publisher (file {path}:{line}) is of the former system and unused",
    )


def test_the_defaults_of_the_data_ids_are_those_of_the_former_system(write):
    given = load_config(write(LEGACY), {}, {}).config.mqtt
    assert given.data_ids == Config().mqtt.data_ids
    assert given.estimation == Config().mqtt.estimation


def test_answers_keep_to_the_old_form_when_file_or_environment_say_so(write):
    """Prevents a site with strict consumers that can't go back to the fields they know."""
    default = Config().mqtt.estimation
    assert (default.confidence, default.tip_keypoints) == (True, False)
    path = write("mqtt: {estimation: {confidence: false, tip_keypoints: true}}\n")
    given = load_config(path, {}, {}).config.mqtt.estimation
    assert (given.confidence, given.tip_keypoints) == (False, True)
    environ = {"FARM_MQTT__ESTIMATION__CONFIDENCE": "false"}
    assert not load_config(None, {}, environ).config.mqtt.estimation.confidence


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1234", "1234"), ("0012", "0012"), ("on", "on"), ("1e3", "1e3"), ("12:30", "12:30")],
)
def test_ids_are_text_however_yaml_reads_them(write, written, meant):
    path = write(f"mqtt: {{listener: {{toolid: {written}}}}}\n")
    assert load_config(path, {}, {}).config.mqtt.listener.toolid == meant


def test_numbers_given_from_python_are_ids_too():
    config = Config.model_validate({"mqtt": {"listener": {"toolid": 7}, "broker": {"protocol": 5}}})
    assert (config.mqtt.listener.toolid, config.mqtt.broker.protocol) == ("7", "5")


# What is wrong, and how it is told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "mqtt:\n  broker:\n    port: 99999\n",
            "FILE:3: mqtt.broker.port: 99999 is not allowed: must be at most 65535",
        ),
        (
            "mqtt:\n  broker: {port: x}\n",
            "FILE:2: mqtt.broker.port: x is not allowed: must be a whole number",
        ),
        (
            "mqtt: {broker: {port: true}}\n",
            "FILE:1: mqtt.broker.port: True is not allowed: must be a number",
        ),
        (
            "mqtt: {listener: {time_window: .nan}}\n",
            "FILE:1: mqtt.listener.time_window: nan is not allowed: must be a finite number",
        ),
        (
            "mqtt: {broker: {tls: {enabled: maybe}}}\n",
            "FILE:1: mqtt.broker.tls.enabled: maybe is not allowed: must be true or false",
        ),
        (
            "mqtt: {listener: {duplicate_handling: drop}}\n",
            (
                "FILE:1: mqtt.listener.duplicate_handling: drop is not allowed:"
                " must be one of ignore, replace, error"
            ),
        ),
        (
            "mqtt: {listener: {root: ''}}\n",
            "FILE:1: mqtt.listener.root: '' is not allowed: must not be empty",
        ),
        (
            'mqtt: {listener: {root: "a\\0b"}}\n',
            (
                "FILE:1: mqtt.listener.root: 'a\\x00b' is not allowed:"
                " must not contain control characters"
            ),
        ),
        (
            "mqtt: {listener: {trace: a/#}}\n",
            (
                "FILE:1: mqtt.listener.trace: a/# is not allowed:"
                " must not contain the wildcards + and #"
            ),
        ),
        (
            "mqtt: {listener: {toolid: a/b}}\n",
            (
                "FILE:1: mqtt.listener.toolid: a/b is not allowed:"
                " must be + (all) or one topic level without + # /"
            ),
        ),
        (
            "mqtt: {listener: {root: $share/a}}\n",
            (
                "FILE:1: mqtt.listener.root: $share/a is not allowed:"
                " must be levels joined by single slashes, and not start with $ or a slash"
            ),
        ),
        (
            "mqtt: {listener: {trace: ResultManagement}}\n",
            (
                "FILE:1: mqtt.listener.trace: ResultManagement is not allowed:"
                " must differ from listener.result"
            ),
        ),
        (
            "mqtt: {estimation: {errors: ResultManagement/Traces}}\n",
            (
                "FILE:1: mqtt.estimation.errors:"
                " is also a topic we listen to: answers would come back in"
            ),
        ),
        (
            "mqtt: {broker: {username: a, username_file: /b}}\n",
            "FILE:1: mqtt.broker.username_file: give either username or username_file, not both",
        ),
        (
            "mqtt: {broker: {password: a, password_file: /b}}\n",
            "FILE:1: mqtt.broker.password_file: give either password or password_file, not both",
        ),
        (
            "mqtt:\n  broker:\n    host: a\n    reconnect_min_s: 40\n",
            (
                "FILE:4: mqtt.broker.reconnect_min_s (for mqtt.broker.reconnect_max_s):"
                " 30.0 is not allowed: must be at least reconnect_min_s (40.0)"
            ),
        ),
        (
            "workers:\n  heartbeat_interval_s: 1\n  heartbeat_timeout_s: 2\n",
            (
                "FILE:3: workers.heartbeat_timeout_s: 2 is not allowed:"
                " must be more than twice heartbeat_interval_s (1.0)"
            ),
        ),
        (
            "dispatch: {control_endpoint: 'tcp://0.0.0.0:5555'}\n",
            (
                "FILE:1: dispatch.control_endpoint: tcp://0.0.0.0:5555 is not allowed: must be on"
                " loopback (127.0.0.1): these sockets are not authenticated"
            ),
        ),
        (
            "dispatch: {control_endpoint: 'tcp://127.0.0.1'}\n",
            (
                "FILE:1: dispatch.control_endpoint: tcp://127.0.0.1 is not allowed:"
                " must be ipc:///PATH or tcp://127.0.0.1:PORT"
            ),
        ),
        (
            "model: depthnet\n",
            (
                "FILE:1: model: depthnet is not allowed: must be empty (built-in), rule,"
                " or of the form package.module:Class"
            ),
        ),
        (
            "intake: {max_queued_bytes: 1000}\n",
            (
                "FILE:1: intake.max_queued_bytes: 1000 is not allowed:"
                " must be at least limits.message_bytes (4000000)"
            ),
        ),
        (
            "traffic: {settings: 3}\n",
            "FILE:1: traffic.settings: 3 is not allowed: must be a mapping of keys to values",
        ),
        (
            "mqtt:\n  broker: {host: [a]}\n",
            "FILE:2: mqtt.broker.host: ['a'] is not allowed: must be text",
        ),
        # the shape of the file
        ("mqtt:\n  listner: {}\n", "FILE:2: unknown key mqtt.listner; did you mean mqtt.listener?"),
        (
            "mqtt:\n  workers: 3\n",
            "FILE:2: unknown key mqtt.workers; did you mean mqtt.processing.workers?",
        ),
        (
            "log: {zzz: 1}\n",
            "FILE:1: unknown key log.zzz; known are level, format",
        ),
        (
            "mqtt: {broker: {port: 1883}}\nmqtt: {}\n",
            "FILE:2: mqtt is given twice (first in line 1)",
        ),
        (
            "traffic:\n  settings:\n    a: 1\n    a: 2\n",
            "FILE:4: traffic.settings.a is given twice (first in line 3)",
        ),
        ("mqtt:\n  broker: 5\n", "FILE:2: mqtt.broker: must be a mapping of keys to values"),
        ("- a\n- b\n", "FILE:1: the file must be a mapping of keys to values"),
        (
            "instance: a/b\n",
            "FILE:1: instance: a/b is not allowed: must be one topic level without + # / $",
        ),
        ('"\\ud800": 1\n', "FILE:1: unknown key \\ud800"),  # a terminal can't be told it
        (
            "state_dir: ~nobody-here/farm\n",
            "FILE:1: state_dir: ~nobody-here names nobody with a home directory",
        ),
        (
            "model_settings: {a: !!python/name:os.system x}\n",
            (
                "FILE:1: model_settings.a: a YAML tag is not supported here:"
                " write text that starts with one of & * ! % @ ` in quotes"
            ),
        ),
    ],
)
def test_each_mistake_is_told_with_its_place_and_what_is_allowed(write, text, expected):
    assert problems(write(text)) == [expected]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("mqtt:\n  broker: [\n", "FILE:3:1: not valid YAML:"),
        ("a: 1\n\tb: 2\n", "FILE:2:1: not valid YAML:"),
        ("mqtt: {}\n---\nmqtt: {}\n", "FILE:2:1: not valid YAML: but found another document"),
        ("mqtt: a\x07b\n", "FILE: not valid YAML: special characters are not allowed"),
        ("model_settings: &a {b: *a}\n", "FILE: is nested without end"),
        # PyYAML raises errors of Python's for these
        ('model: "\\UFFFFFFFF"\n', "FILE: not valid YAML: an escape or a version"),
        (f"%YAML {'1' * 5000}.1\n---\nmodel: x\n", "FILE: not valid YAML: an escape or a version"),
    ],
)
def test_a_file_that_is_no_yaml(write, text, start):
    (line,) = problems(write(text))
    assert line.startswith(start)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0x_", "is no int: write text that looks like one in quotes"),
        ("0b_", "is no int: write text that looks like one in quotes"),
        ("!!int one", "is no int: write text that looks like one in quotes"),
        ("!!float one", "is no float: write text that looks like one in quotes"),
        ("!!float", "is no float: write text that looks like one in quotes"),
        ("!!int ''", "is no int: write text that looks like one in quotes"),
        ("!!bool maybe", "is no bool: write text that looks like one in quotes"),
        ("9" * 5000, "is no int: write text that looks like one in quotes"),
        ("9" * 30, "must be a number of at most 64 bits"),
        ('"\\ud800"', "must be valid UTF-8"),
    ],
)
def test_a_scalar_that_is_not_what_it_looks_like_is_told_with_its_line(write, value, words):
    # prevents: a traceback; or a value that ends the broker when it is sent to a worker
    assert problems(write(f"model_settings:\n  a: {value}\n")) == [
        f"FILE:2: model_settings.a: {words}"
    ]
    with pytest.raises(ValueError, match="must be"):
        plain_value(f"{{a: {value}}}")


@pytest.mark.parametrize("template", ["[{}]", "{{<<: [{}]}}"])
def test_a_few_lines_of_aliases_are_not_made_into_billions_of_values(write, template):
    # prevents: `farm config check` that takes all memory
    first = "a0: &a0 {k0: 1}"
    lines = [f"a{n}: &a{n} {template.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 30)]
    nested = "\n  ".join([first, *lines])
    (line,) = problems(write(f"model_settings:\n  {nested}\n"))
    assert "holds more than 100000 values" in line
    with pytest.raises(ValueError, match="holds more"):
        plain_value("\n".join([first, *lines]))


def test_files_that_can_not_be_read(tmp_path):
    assert problems(tmp_path / "none.yaml") == ["FILE: no such file"]
    assert problems(tmp_path) == ["FILE: can't be read: Is a directory"]
    (tmp_path / "latin1.yaml").write_bytes(b"instance: \xe9\n")
    assert problems(tmp_path / "latin1.yaml") == ["FILE: is not UTF-8 text (byte 10)"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"FARM_MQTT__BROKER__PORT": "x"},
            "environment FARM_MQTT__BROKER__PORT: x is not allowed: must be a whole number",
        ),
        (
            {"FARM_MQTT__BROKR__PORT": "1"},
            (
                "environment FARM_MQTT__BROKR__PORT: unknown variable;"
                " did you mean FARM_MQTT__BROKER__PORT?"
            ),
        ),
        ({"FARM_X": "1"}, "environment FARM_X: unknown variable"),
        (
            {"FARM_CONFIG": "~nobody-here/farm.yaml"},
            "environment FARM_CONFIG: ~nobody-here names nobody with a home directory",
        ),
        ({"MODEL_ID": "two"}, "environment MODEL_ID: two is not allowed: must be a whole number"),
        (
            {"FARM_MODEL_SETTINGS": "{a: 1, a: 2}"},
            "environment FARM_MODEL_SETTINGS: must be plain YAML or JSON without repeated keys",
        ),
        ({"FARM_MODEL_SETTINGS": "{"}, "environment FARM_MODEL_SETTINGS: must be YAML or JSON"),
        (
            {"FARM_MQTT__LISTENER__ROOT": "\udce9"},
            "environment FARM_MQTT__LISTENER__ROOT: '\\udce9' is not allowed: must be valid UTF-8",
        ),
    ],
)
def test_mistakes_in_the_environment(environ, expected):
    assert problems(None, environ=environ) == [expected]


def test_mistakes_on_the_command_line_name_the_option():
    assert problems(None, {"mqtt.processing.workers": -1}) == [
        "--workers: -1 is not allowed: must be at least 0"
    ]
    assert problems(None, {"limits.samples": 0}) == [
        "command line: limits.samples: 0 is not allowed: must be at least 1"
    ]


def test_all_problems_are_told_at_once(write):
    path = write("mqtt:\n  listner: {}\n  broker: {port: 0}\nlimits: {samples: x}\n")
    found = problems(path, {"mqtt.processing.workers": 5000}, {"FARM_LOGG": "1"})
    assert [line.split(": ")[0] for line in found] == [
        "FILE:2",
        "environment FARM_LOGG",
        "FILE:3",
        "--workers",
        "FILE:4",
    ]


def test_merge_keys_and_anchors_work(write):
    path = write("model_settings: &a {x: 1, y: 2}\ntraffic: {settings: {<<: *a, y: 3}}\n")
    assert load_config(path, {}, {}).config.traffic.settings == {"x": 1, "y": 3}


def test_an_override_hides_a_mistake_below_it(write):
    """Who repairs a setting from outside must be able to start."""
    loaded = load_config(write("limits: {samples: x}\n"), {}, {"FARM_LIMITS__SAMPLES": "5"})
    assert loaded.config.limits.samples == 5


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        "mqtt: {broker: {password: [geheim1]}}\n",
        "mqtt: {broker: {password: {geheim1: geheim1}}}\n",
        "mqtt: {broker: {password: *geheim1}}\n",
        "mqtt: {broker: {password: !geheim1 geheim1}}\n",
        "mqtt: {broker: {password: @geheim1}}\n",
        "mqtt: {broker: {password: %geheim1}}\n",
        "mqtt: {broker: {password: geheim1, password_file: /x}}\n",
        "mqtt: {broker: {password: geheim1, port: x}}\n",
        'mqtt: {broker: {password: "geheim1}}\n',
        "mqtt: {broker: {password: 'geheim1' 'geheim1'}}\n",
        "mqtt: {broker: {pasword: geheim1}}\n",
    ],
)
def test_no_message_shows_a_password(write, text):
    assert "geheim1" not in "\n".join(problems(write(text)))


def test_views_hide_secrets(write):
    text = LEGACY + "traffic: {settings: {api_key: geheim, port: 3}}\n"
    loaded = load_config(write(text), {}, {})
    view = shown(loaded)
    assert "hunter2" not in view
    assert "geheim" not in view
    assert "********" in view
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in json.dumps(worker_view(loaded.config))


def test_credentials_come_from_the_tree_or_from_files(tmp_path):
    (tmp_path / "user").write_text("depth\n")
    (tmp_path / "password").write_text("a b \nsecond line\n")
    given = {
        "mqtt.broker.username_file": str(tmp_path / "user"),
        "mqtt.broker.password_file": str(tmp_path / "password"),
    }
    found = read_credentials(load_config(None, given, {}).config.mqtt.broker)
    assert (found.username, found.password) == ("depth", "a b ")
    assert "a b " not in repr(found)
    (tmp_path / "user").unlink()
    with pytest.raises(ConfigError, match=r"username_file: .*user can't be read: No such file"):
        read_credentials(load_config(None, given, {}).config.mqtt.broker)


# Views


def test_the_annotated_file_has_every_key_with_its_default():
    """The file is what people copy: a key that is missing in it does not exist for them."""
    path = ROOT / "etc" / "farm.yaml"
    loaded = load_config(path, {}, {})
    assert loaded.config == Config()
    reading = read_file(path)
    given = {setting.key for setting in reading.settings}
    lines = [line.strip() for line in path.read_text().splitlines()]
    for key, leaf in tree().leaves.items():
        if leaf.default is None:
            assert any(line.startswith(f"{key.rpartition('.')[2]}: null") for line in lines), key
        else:
            assert key in given


def test_every_key_is_described():
    assert [key for key, leaf in tree().leaves.items() if not leaf.field.description] == []


def test_shown_yaml_is_a_configuration_again(write, tmp_path):
    loaded = load_config(write("instance: '12'\nlimits: {samples: 7}\n"), {}, {})
    again = tmp_path / "again.yaml"
    again.write_text(shown(loaded))
    assert load_config(again, {}, {}).config == loaded.config
    assert shown(load_config(None, {}, {}), only_changed=True) == "# everything has its default\n"


def test_workers_get_all_but_the_access_to_mqtt():
    config = Config.model_validate(
        {
            "mqtt": {"broker": {"host": "x", "password": "p"}, "publisher": {"a": 1}},
            "state_dir": "/s",
            "limits": {"samples": 5},
            "model_settings": {"a": [1, None]},
        }
    )
    view = json.loads(json.dumps(worker_view(config)))
    again = Config.model_validate(view)
    differing = {key for key in tree().leaves if value_of(config, key) != value_of(again, key)}
    left_out = {"mqtt.broker.host", "mqtt.broker.password", "mqtt.publisher", "state_dir"}
    assert differing == left_out


def test_the_tree_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().limits.samples = 1


def test_the_schema_describes_every_section():
    made = schema()
    assert made["properties"]["limits"]["$ref"] == "#/$defs/LimitsConfig"
    assert made["$defs"]["BrokerConfig"]["properties"]["port"]["maximum"] == 65535


# Notes


def test_notes_tell_what_is_accepted_and_without_effect(write):
    path = write(
        "mqtt:\n  processing: {model_id: 2}\n  analyzer: {}\n"
        "  broker: {tls: {enabled: true, insecure: true}}\nmodel: rule\n"
    )
    assert load_config(path, {}, {}).notes == (
        f"mqtt.analyzer (file {path}:3) is of the former system and unused",
        f"mqtt.processing.model_id (file {path}:2) is unused: model is set",
        "mqtt.broker.tls.insecure: the MQTT broker's certificate is not verified",
    )


# The command


@pytest.fixture
def farm_config(monkeypatch):
    for name in ("FARM_CONFIG", "LOG_LEVEL", "MODEL_ID"):
        monkeypatch.delenv(name, raising=False)
    return lambda *args: CliRunner().invoke(command, [str(arg) for arg in args])


def test_check_says_what_it_read(farm_config, write):
    path = write(LEGACY)
    result = farm_config("check", "--config", path)
    assert result.exit_code == 0
    first, note, last = result.output.splitlines()
    assert first.startswith(f"read {path}; values: ")
    assert note.startswith("note: mqtt.publisher")
    assert last == "OK"


def test_check_refuses_with_the_exit_code_of_configurations(farm_config, write):
    result = farm_config("check", "--config", write("mqt: {}\n"))
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == ExitCode.CONFIG == 3


def test_show_and_schema(farm_config, write):
    result = farm_config(
        "show", "--changed", "-c", write("limits: {samples: 7}\n"), "--state-dir", "/s"
    )
    assert "samples: 7" in result.output
    assert "state_dir: /s" in result.output
    assert "# command line" in result.output
    assert "id_chars" not in result.output
    assert json.loads(farm_config("schema").output)["title"] == "farm configuration"


RAY = {"workers": {"launch": "ray"}, "attach": {"listen": "*:7003"}, "ray": {"key_file": "/k"}}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"attach": {}}, "attach.listen"),
        ({"ray": {}}, "ray.key_file"),
        ({"ray": {"key_file": "ray.key"}}, "looked for on every node"),
        ({"ray": {"key_file": "/k", "address": "ray://head:10001"}}, "must be auto, or HOST:PORT"),
        ({"ray": {"key_file": "/k", "resources": {"GPU": 0}}}, "greater than 0"),
        ({"workers": {"launch": "ray", "min": 2}}, "must be given where min is"),
    ],
)
def test_workers_on_ray_are_told_all_that_they_need(changed, told):
    # prevents: actors that Ray keeps for ever, none of which can reach the farm
    assert Config.model_validate(RAY).workers.launch == "ray"
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(RAY | changed)
    assert told in str(caught.value.errors())
