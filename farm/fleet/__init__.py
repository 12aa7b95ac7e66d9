"""Workers on the machines of a Ray cluster: how many, and which. Jobs go past Ray, over ZeroMQ."""
