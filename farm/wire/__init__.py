"""Every message between `farm`'s own processes: its fields, its bytes, its limits.

Nothing else packs or unpacks. A message is a list of frames: frame 0 is one byte of kind followed
by a msgpack array ``[PROTOCOL, field, field, …]``; the raw parts of a job follow as frames of their
own, untouched. Never pickle.

The messages stand by who talks to whom (`jobs`, `worker`, `command`, `supervision`, `nursery`);
`layout` gives each its kind and its fields, `codec` makes frames of them and back, within `limits`.

Which socket carries what::

    jobs     PUSH ▶ PULL      Jobs                            broker ▶ worker
    results  PUSH ▶ PULL      Claim Bounce Bye, and Result,   worker ▶ broker
                              each of a batch in a frame
    control  DEALER ▶ ROUTER  Hello Ready Heartbeat Fetch     worker ▶ broker, and the reply
                              StatsRequest StoryRequest       command line ▶ broker, and the reply
                              Drain Pause Resume Scale DrainWorker Retry Drop
                              LogLevel
                              SupervisorReport Reload Configured
                                                              supervisor ▶ broker, and the reply
                              FleetReport                     fleet ▶ broker, and the reply
    a pair of sockets         Load Fork, NurseryReady         supervisor ▶ nursery, and its reply
"""

from farm.wire.codec import decode, decode_jobs, encode, encode_jobs
from farm.wire.command import (
    Done,
    Drain,
    DrainWorker,
    Drop,
    Handled,
    LogLevel,
    LogLevels,
    Pause,
    Resume,
    Retry,
    Scale,
    StatsReply,
    StatsRequest,
    StoryReply,
    StoryRequest,
)
from farm.wire.frame import PROTOCOL
from farm.wire.jobs import JOBS_KIND, Bounce, Bye, Claim, Job, Jobs, Result
from farm.wire.layout import Message, kind_of
from farm.wire.limits import (
    MAX_DEPTH,
    MAX_FRAMES,
    MAX_HEAD_BYTES,
    MAX_ITEMS,
    MAX_KEY_CHARS,
    MAX_NAME_CHARS,
    MAX_REASON_CHARS,
)
from farm.wire.nursery import BEGIN, Fork, Load, NurseryReady
from farm.wire.supervision import (
    Configured,
    FleetOrders,
    FleetReport,
    Reload,
    SupervisorOrders,
    SupervisorReport,
)
from farm.wire.worker import Fetch, Heartbeat, Hello, Orders, Piece, Ready, Refused, Welcome

__all__ = [
    "BEGIN",
    "JOBS_KIND",
    "MAX_DEPTH",
    "MAX_FRAMES",
    "MAX_HEAD_BYTES",
    "MAX_ITEMS",
    "MAX_KEY_CHARS",
    "MAX_NAME_CHARS",
    "MAX_REASON_CHARS",
    "PROTOCOL",
    "Bounce",
    "Bye",
    "Claim",
    "Configured",
    "Done",
    "Drain",
    "DrainWorker",
    "Drop",
    "Fetch",
    "FleetOrders",
    "FleetReport",
    "Fork",
    "Handled",
    "Heartbeat",
    "Hello",
    "Job",
    "Jobs",
    "Load",
    "LogLevel",
    "LogLevels",
    "Message",
    "NurseryReady",
    "Orders",
    "Pause",
    "Piece",
    "Ready",
    "Refused",
    "Reload",
    "Result",
    "Resume",
    "Retry",
    "Scale",
    "StatsReply",
    "StatsRequest",
    "StoryReply",
    "StoryRequest",
    "SupervisorOrders",
    "SupervisorReport",
    "Welcome",
    "decode",
    "decode_jobs",
    "encode",
    "encode_jobs",
    "kind_of",
]
