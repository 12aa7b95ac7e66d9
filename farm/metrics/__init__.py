"""What monitoring reads of a running farm: metrics for Prometheus, and whether it is well."""
