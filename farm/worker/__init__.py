"""One worker: a reader thread that owns all sockets, and a compute loop that owns the model."""
