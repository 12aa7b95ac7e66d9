"""Everything that plays the outside world of a farm: units, their gateways, an MQTT broker.

For the demo, the bench, replays and tests. The broker process and the workers never import it.
"""
