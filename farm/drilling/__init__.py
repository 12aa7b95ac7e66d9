"""The drilling units' traffic: reading their OPC UA messages, judging and wording the answers.

Everything that knows what a hole is stands here; `farm.broker` and `farm.worker` know only joins.
"""
