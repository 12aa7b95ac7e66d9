"""What the keys of a snapshot are called before people."""

from __future__ import annotations

STAGE_WORDS = {
    "pairing": "first part to complete",
    "queue": "waiting for a worker",
    "transport": "broker to worker",
    "reading": "JSON to arrays",
    "inference": "the model",
    "publishing": "answer to PUBACK",
    "total": "last part to PUBACK",
}
COUNT_WORDS = {
    "recovered": "taken up from the life before",
    "duplicates": "duplicate parts",
    "redelivered": "parts that MQTT delivered again",
    "replaced": "parts replaced",
    "late": "parts too late for their hole",
    "superseded": "superseded joins",
    "flushed": "unpaired at the stop",
    "optional_unused": "optional parts without a join",
    "expired": "unpaired, expired",
    "evicted": "evicted, buffer full",
    "rejected": "unreadable messages",
    "refused_publications": "answers refused by MQTT",
    "negative_depths": "negative depths",
    "negative_runs": "runs of negative depths",
    "invalid_confidence": "malformed confidences left out",
    "invalid_values": "answers of the model that are no depths",
    "alerts": "alerts",
    "bounces": "bounces",
    "reclaimed": "sent again unclaimed",
    "spilled": "holes that waited on disk",
    "late_claims": "late claims",
    "late_results": "late results suppressed",
    "workers_fenced": "workers fenced",
    "bad_frames": "bad frames",
    "admitted": "connections let in by key",
    "turned_away": "strangers turned away",
    "forged": "messages without a right to them",
    "adapter_failures": "failures of the adapter",
    "answerer_failures": "failures of the answerer",
    "foreign_topics": "foreign topics",
    "loops": "answers on topics that are taken in",
    "rate_limited": "messages beyond the rate of a key",
    "kept_out": "keys kept out for a while",
    "workers_refused": "workers refused, too many",
    "of_another_partition": "messages of another partition",
}
# What answerers count under names of their own, and of that the broker too: alerts.
OF_ANSWERERS = frozenset(
    {"negative_depths", "negative_runs", "invalid_confidence", "invalid_values", "alerts"}
)
# What the broker counts, so that no answerer may raise it.
OF_THE_BROKER = frozenset(
    {*COUNT_WORDS, "holes", "parts", "paired", "parcels", "skipped"} - OF_ANSWERERS
)
