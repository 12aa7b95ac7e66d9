"""The models a worker can hold: the protocol, the built-in depth network and the rule it beats."""
