"""The properties of the configuration, on files and environments that are nearly right."""

from __future__ import annotations

import json
from typing import Any

import yaml
from fuzz import configuration
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import edited

from farm.config.environment import LEGACY, variable
from farm.config.keys import tree

LEAVES = sorted(set(tree().leaves) - {"mqtt.publisher", "mqtt.analyzer"})
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
names = st.sampled_from([*map(variable, LEAVES), *LEGACY, "FARM_WORKERS", "FARM_WORKES"])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file with some of the keys, as they are by default or with anything at all."""
    nested: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(LEAVES), max_size=5)):
        *parents, name = key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        default = json.loads(json.dumps(configuration._plain(tree().leaves[key].default)))
        section[name] = draw(values) if draw(st.booleans()) else default
    return yaml.safe_dump(nested, allow_unicode=draw(st.booleans())).encode()


environments = st.lists(
    st.builds(lambda name, text: f"{name}={text}".encode(), names, st.text(max_size=12)), max_size=3
)


@settings(max_examples=100)
@given(files() | edited(files()), environments)
def test_files_and_environments_with_odd_values(text: bytes, variables: list[bytes]) -> None:
    """A mistake that is a traceback; a configuration that its workers read otherwise."""
    configuration.check(b"\0".join([text.replace(b"\0", b""), *variables]))
