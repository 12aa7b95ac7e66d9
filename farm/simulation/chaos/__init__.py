"""Chaos: a farm under load while things break at random, and the account that must come out even.

`faults` says what breaks and when, `traffic` what is wrong with the messages, `hands` breaks it;
`history` is what was seen, `check` judges it, `report` words it. `campaign` runs it all.
"""
