"""Traffic kept in a file, and played again: `farm record`, `farm replay`, `farm recording`.

The file is described byte by byte in docs/recordings.md. Nothing here runs in the broker process or
in a worker.
"""
