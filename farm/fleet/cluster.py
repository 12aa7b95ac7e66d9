"""The `Cluster`: the one place that knows Ray. It starts, asks, and ends actors; decides nothing.

Actors belong to the process that asked for them (they are not detached): when it ends, Ray ends
them, so a farm leaves nothing on a cluster however it goes.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.exceptions import RayActorError, RayError

from farm.errors import FarmError
from farm.fleet.fleet import Sight
from farm.fleet.post import Post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.config.ray import RayConfig

KNOCK_TIMEOUT_S: Final = 3.0
_AUTO: Final = "auto"
_CPU: Final = "CPU"
_GPU: Final = "GPU"
_FOR_EVER: Final = -1


class ClusterError(FarmError):
    """Ray can't be reached, or has failed. The message has cause and cure."""


class _Post(Post):
    """A post that finds out on which node it is."""

    def __init__(self, name: str, key_file: str, *, has_gpu: bool = False) -> None:
        node = ray.get_runtime_context().get_node_id()
        super().__init__(name, key_file, node, has_gpu=has_gpu)


class Cluster:
    """See the module. For the main thread.

    Args:
        settings: of the configuration.
        num_gpus: that Ray keeps free for each worker.
    """

    def __init__(self, settings: RayConfig, *, num_gpus: float = 0.0) -> None:
        self._settings = settings
        self._num_gpus = num_gpus
        self._actors: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}  # the outstanding look at each

    @property
    def demand(self) -> dict[str, float]:
        """What each actor needs, by the name of the resource."""
        gpus = {_GPU: self._num_gpus} if self._num_gpus else {}
        return {_CPU: self._settings.num_cpus, **self._settings.resources, **gpus}

    def connect(self) -> None:
        """Join the cluster.

        Raises:
            ClusterError: there is none, or it is of another version.
        """
        address = self._settings.address
        if address == _AUTO:
            address = os.environ.get("RAY_ADDRESS") or _AUTO
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        # Ray raises what it likes: ConnectionError, RuntimeError, ValueError, its own
        except Exception as error:
            ray.shutdown()
            first = str(error).strip().partition("\n")[0]
            raise ClusterError(
                f"no Ray cluster answers at {address} ({first:.200}): `ray start --head` begins"
                " one; ray.address names it"
            ) from error

    def start(self, name: str) -> None:
        """Ask for an actor; Ray places it when there is room."""
        settings = self._settings
        resources = {name: n for name, n in settings.resources.items() if name != _GPU}
        options: dict[str, Any] = {
            "num_cpus": settings.num_cpus,
            "num_gpus": self._num_gpus,
            "resources": resources,
            "scheduling_strategy": "SPREAD",
            "max_restarts": _FOR_EVER,
            "max_task_retries": _FOR_EVER,
        }
        if settings.runtime_env:
            options["runtime_env"] = settings.runtime_env
        self._actors[name] = (
            ray.remote(_Post)
            .options(**options)
            .remote(name, str(settings.key_file), has_gpu=self._num_gpus > 0)
        )

    def look(self) -> Iterator[tuple[str, Sight | str | None]]:
        """What each actor says of itself: None: nothing yet; a sentence: Ray has given it up.

        Raises:
            ClusterError: Ray has failed.
        """
        for name, actor in list(self._actors.items()):
            asked = self._asked.get(name)
            if asked is None:
                self._asked[name] = actor.look.remote()
                continue
            if not ray.wait([asked], timeout=0)[0]:
                yield name, None
                continue
            del self._asked[name]
            try:
                sight = Sight(*ray.get(asked))
            except RayActorError as error:
                self.end(name)
                yield name, f"Ray has given its actor up: {_last_line(error)}"
            except RayError as error:
                raise ClusterError(f"Ray has failed: {_last_line(error)}") from error
            else:
                yield name, sight

    def leave(self, name: str) -> None:
        """Have the worker of an actor finish and leave; `look` tells when it has."""
        self._actors[name].leave.remote()

    def end(self, name: str) -> None:
        """End an actor at once, and its worker with it."""
        self._asked.pop(name, None)
        ray.kill(self._actors.pop(name), no_restart=True)

    def nodes(self) -> list[dict[str, float]]:
        """What each living node has, by the name of the resource.

        Raises:
            ClusterError: the node of this machine is none of them: Ray is heard of no more.
        """
        alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        if ray.get_runtime_context().get_node_id() not in alive:
            raise ClusterError("the Ray node of this machine has ended: `ray start` begins another")
        return list(alive.values())

    def close(self) -> None:
        """Leave the cluster; Ray ends what is left of ours."""
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether somebody listens there. Ray would find out as well, in two minutes.

    Raises:
        OSError: nobody does.
        ValueError: this is no HOST:PORT.
    """
    if address != _AUTO:
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_TIMEOUT_S).close()


def _last_line(error: Exception) -> str:
    """Of what Ray says, the line with the cause; the rest is a traceback of its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[-1]:.300}" if lines else type(error).__name__
