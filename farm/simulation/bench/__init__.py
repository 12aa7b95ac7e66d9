"""The bench: how much a farm carries, what each hole costs, and how near that is to the limit.

`drive` is the process that publishes and listens, with `packets` it rewrites and a `book` it keeps.
`contender` says what is measured: the farm, a plain pool, or bare MQTT; `forward` is the model
alone. `meter` measures one of them, `rounds` runs all in turns; `report` words what was found and
`plot` draws it.
"""
