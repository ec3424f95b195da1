"""Set-ups of other gateways, read and brought in."""
