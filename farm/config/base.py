"""What every section of the configuration is made of: the frozen base, the shared kinds of text.

Owns no keys. Each family of sections has a file; `farm.config.tree` puts them together.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of the tree: frozen, complete, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # `toolboxid: 1234` is how people write ids in YAML
        hide_input_in_errors=True,  # an input may be a password
        protected_namespaces=(),  # `model` and `model_id` are the field's own words
    )


def refuse(key: str, message: str) -> PydanticCustomError:
    """The error of a check across several keys; blames `key`, which is relative to the section."""
    return PydanticCustomError("across", "{message}", {"message": message, "key": key})


def _clean(text: str) -> str:
    """Refuse what MQTT forbids in any topic: control characters and text that is not UTF-8."""
    if any(character < " " or character == "\x7f" for character in text):
        raise PydanticCustomError("topic", "must not contain control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("topic", "must be valid UTF-8") from None
    return text


def _topic(text: str) -> str:
    _clean(text)
    if "+" in text or "#" in text:
        raise PydanticCustomError("topic", "must not contain the wildcards + and #")
    if text.startswith(("/", "$")) or text.endswith("/") or "//" in text:
        raise PydanticCustomError(
            "topic", "must be levels joined by single slashes, and not start with $ or a slash"
        )
    return text


def _level(text: str) -> str:
    _clean(text)
    if text != "+" and any(character in text for character in "+#/"):
        raise PydanticCustomError("topic", "must be + (all) or one topic level without + # /")
    return text


def one_level(text: str) -> str:
    """Accept one topic level, or nothing."""
    if any(character in "+#/$" or character < " " for character in text):
        raise PydanticCustomError("topic", "must be one topic level without + # / $")
    return text


def class_name(text: str) -> str:
    """Accept package.module:Class."""
    module, _, name = text.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise PydanticCustomError("class", "must be of the form package.module:Class")
    return text


def expand(path: Path) -> Path:
    """Put a home directory in the place of ``~`` or ``~user``.

    Raises:
        PydanticCustomError: there is no such user, or none who has a home.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        words = {"home": path.parts[0]}
        raise PydanticCustomError(
            "home", "{home} names nobody with a home directory", words
        ) from None


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Topic = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_topic)]
"""One or more topic levels without wildcards."""

Level = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_level)]
"""One topic level, or + for all."""

FieldPath = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""Where a value lies in a message, without the gateway's namespace, tool name and suffix."""

FilePath = Annotated[Path, AfterValidator(expand)]
"""A path; ~ is the home directory, and a relative one counts from where farm was started."""

AnyCase = BeforeValidator(_lower)
"""Makes the words of a choice case-insensitive."""

AsText = BeforeValidator(_text)
"""Lets a choice such as "5" be written as a number."""
