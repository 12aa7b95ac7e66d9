"""An MQTT 3.1.1 broker in pure Python, in a process of its own: ``--port PORT``.

Owns the settings of amqtt for a demo: loopback, anonymous, quiet. It keeps nothing on disk and
loses what is in flight when it ends, so it never serves as the durable leg.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

# Everything a plant's units send at once; amqtt's own default refuses nothing either.
ANONYMOUS = "amqtt.plugins.authentication.AnonymousAuthPlugin"


async def serve(port: int) -> None:
    """Run the broker until SIGTERM or SIGINT."""
    from amqtt.broker import Broker  # noqa: PLC0415 - an extra that may be missing

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {ANONYMOUS: {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await stop.wait()
    await broker.shutdown()


def main() -> None:
    """Read the port and serve."""
    if len(sys.argv) != 3 or sys.argv[1] != "--port":
        sys.exit("usage: python -m farm.simulation.amqtt_server --port PORT")
    logging.disable(logging.ERROR)
    asyncio.run(serve(int(sys.argv[2])))


if __name__ == "__main__":
    main()
