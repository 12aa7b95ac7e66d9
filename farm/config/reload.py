"""What of a new configuration a running farm takes over, and what must wait for its next start."""

from __future__ import annotations

from farm.config.keys import tree
from farm.config.show import value_of
from farm.config.tree import Config
from farm.errors import ConfigError

RAY = "ray"

# Keys, or sections, that matter to workers and supervisor alone: replacing workers is enough.
RELOADABLE = (
    "model",
    "model_settings",
    "mqtt.processing",
    "workers.launch",
    "workers.threads",
    "workers.ready_timeout_s",
    "supervisor",
)


def take_over(running: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """Split the changes.

    Args:
        running: the configuration in force.
        new: the one that was read.

    Returns:
        `running` with all that can change while the farm runs, and the dotted keys that did change:
        those taken over, and those that need a restart.

    Raises:
        ConfigError: workers are to be launched on Ray from now on, or no more.
    """
    launches = (running.workers.launch, new.workers.launch)
    if launches[0] != launches[1] and RAY in launches:
        raise ConfigError(
            f"workers.launch can't change from {launches[0]} to {launches[1]} while the farm runs: "
            "start it again for that"
        )
    changed = [key for key in tree().leaves if value_of(running, key) != value_of(new, key)]
    taken = [key for key in changed if is_reloadable(key)]
    values = running.model_dump()
    for key in taken:
        *sections, name = key.split(".")
        section = values
        for each in sections:
            section = section[each]
        section[name] = value_of(new, key)
    return Config.model_validate(values), taken, [key for key in changed if key not in taken]


def is_reloadable(key: str) -> bool:
    """Whether a running farm takes this key over."""
    return any(key == each or key.startswith(f"{each}.") for each in RELOADABLE)
