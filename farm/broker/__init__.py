"""The broker process: MQTT in, joined, dispatched to workers, answered, MQTT out. No torch in it.

The way of a hole, one file a station::

    mqtt ▶ intake ▶ buffer ▶ correlator ▶ ledger ▶ (worker) ▶ sequencer ▶ answerer ▶ outbox ▶ mqtt

`flow` strings the stations together without any I/O; `process` owns sockets, threads and clocks.
"""
