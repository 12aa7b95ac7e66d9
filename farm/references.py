"""Checks what a configuration refers to outside itself: modules to import and files to read.

Apart from `load`, since a configuration may well be shown or described on a machine that has
neither. Imports no module of the user's but the packages that one lies in, and never torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from farm.config.reload import RAY
from farm.errors import ConfigError, ModelError
from farm.models.depthnet import read_settings
from farm.models.package import MANIFEST
from farm.models.registry import find_package, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.config.tree import Config

PAGE_NEEDS = ("starlette", "uvicorn")
_DEPTHNET = ("", "depthnet")
OTEL = "opentelemetry.exporter.otlp.proto.http"  # of the extra `otel`
_BUILT_IN = (*_DEPTHNET, "rule")


def check_references(config: Config) -> None:
    """Find out whether the modules and files that the configuration names are there.

    Raises:
        ConfigError: with one line for each that is not.
    """
    found = [_class_problem("traffic.adapter", config.traffic.adapter)]
    if config.model not in _BUILT_IN:
        found.append(_class_problem("model", config.model))
    found += [_model_problem(config), _settings_problem(config)]
    found += [_ray_problem(config), _page_problem(config), _otel_problem(config)]
    found += [_file_problem(key, value) for key, value in _files(config)]
    if problems := [f"  {problem}" for problem in found if problem]:
        raise ConfigError("\n".join(["the configuration is not usable:", *problems]))


def _class_problem(key: str, spec: str) -> str:
    """Why the module of a class can't be found; "" when it can."""
    module, _, name = spec.partition(":")
    if not module or not name:
        return f"{key}: {spec} is not allowed: must be of the form package.module:Class"
    missing = (
        f"{key}: {spec}: there is no module {module}:"
        " correct the name, or put its folder on PYTHONPATH"
    )
    try:
        importlib.invalidate_caches()
        return "" if importlib.util.find_spec(module) else missing
    # the packages around a module are the user's code and run now: anything may come out of them
    except Exception as error:  # noqa: BLE001
        is_package_missing = (
            isinstance(error, ModuleNotFoundError)
            and error.name is not None
            and f"{module}.".startswith(f"{error.name}.")
        )
        if is_package_missing:
            return missing
        told = f"{type(error).__name__}: {error}"
        return f"{key}: {spec}: the package of {module} can't be imported ({told}): correct it"


def _files(config: Config) -> Iterator[tuple[str, object]]:
    """The files that will be read, by key; those of a TLS that is off will not."""
    broker = config.mqtt.broker
    yield "mqtt.broker.username_file", broker.username_file
    yield "mqtt.broker.password_file", broker.password_file
    if broker.tls.enabled:
        yield "mqtt.broker.tls.ca_file", broker.tls.ca_file
        yield "mqtt.broker.tls.cert_file", broker.tls.cert_file
        yield "mqtt.broker.tls.key_file", broker.tls.key_file
    if config.page.listen:
        yield "page.token_file", config.page.token_file
    weights = config.model_settings.get("weights") or None
    if config.model in _DEPTHNET and weights:  # a model of the user's own may mean anything by it
        key = "model_settings.weights"
        is_path = isinstance(weights, str | Path) and "\0" not in str(weights)
        yield key, Path(weights) / MANIFEST if is_path else weights


def _model_problem(config: Config) -> str:
    """Why the registered model can't be found; "" when it can, or isn't wanted."""
    if config.model:
        return ""
    processing = config.mqtt.processing
    try:
        kind_of(find_package(processing.model_id, processing.models_dir))
    except ModelError as error:
        return f"mqtt.processing.model_id: {error}"
    return ""


def _ray_problem(config: Config) -> str:
    """Whether Ray is missing, where workers are launched on it; it is not imported here."""
    if config.workers.launch != RAY or importlib.util.find_spec(RAY):
        return ""
    return "workers.launch: ray is not installed here: pip install 'farm[ray]', on every node, too"


def _page_problem(config: Config) -> str:
    """Whether what serves the page is missing, where it is wanted; it is not imported here."""
    if not config.page.listen:
        return ""
    missing = [name for name in PAGE_NEEDS if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"page.listen: {' and '.join(missing)} not installed here: pip install 'farm[page]'"


def _otel_problem(config: Config) -> str:
    """Whether OpenTelemetry is missing, where a collector is to be told."""
    if not config.telemetry.otlp_endpoint:
        return ""
    try:
        if importlib.util.find_spec(OTEL):
            return ""
    except ModuleNotFoundError:  # of a package around it
        pass
    return "telemetry.otlp_endpoint: OpenTelemetry is not installed here: pip install 'farm[otel]'"


def _settings_problem(config: Config) -> str:
    """Why the depth network can't take its settings; "" when it can, or isn't wanted."""
    processing = config.mqtt.processing
    try:
        kind = config.model or kind_of(find_package(processing.model_id, processing.models_dir))
        if kind == "depthnet":
            read_settings(
                config.model_settings | {"weights": None}
            )  # its folder is asked for apart
    except ModelError as error:
        told = str(error)
        return told if told.startswith("model_settings") else ""  # the other was told already
    return ""


def _file_problem(key: str, value: object) -> str:
    """Why a file can't be read; "" when it can, or when none is named."""
    if value is None:
        return ""
    if not isinstance(value, str | Path) or "\0" in str(value):
        return f"{key}: {value!r} is not allowed: must be a path"
    path = Path(value)
    try:
        path.open("rb").close()
    except OSError as error:
        where = "" if path.is_absolute() else f" (from {Path.cwd()})"
        return (
            f"{key}: {path}{where} can't be read: {error.strerror}:"
            " correct the path or the file's rights"
        )
    return ""
