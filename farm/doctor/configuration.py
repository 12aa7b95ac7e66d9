"""The configuration: what it refers to is there, and what is worth knowing about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.doctor.finding import Finding, fail, ok, warn
from farm.errors import ConfigError, StateError
from farm.references import check_references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.doctor.patient import Patient


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module; its values were checked when it was loaded."""
    loaded = patient.loaded
    source = f"{loaded.path} is valid" if loaded.path else "no file: the built-in defaults"
    yield ok("configuration.values", source)
    for note in loaded.notes:
        yield ok("configuration.note", note)
    try:
        check_references(loaded.config)
    except ConfigError as error:
        for problem in str(error).splitlines()[1:]:
            yield fail("configuration.references", problem.strip(), "correct it, or what it names")
    else:
        yield ok("configuration.references", "every module and file that it names is there")
    if loaded.config.journal.durability == "off":
        yield warn(
            "configuration.durability",
            "journal.durability is off: what was acknowledged is lost when the broker process ends",
            "set it to process, or to power",
        )


def unusable(error: ConfigError | StateError) -> Finding:
    """The finding about a configuration with which nothing else can be looked at."""
    return fail("configuration.values", str(error), "correct it, then look again")
