"""Resilience: what is refused, given up, or left out for a while, so that the rest goes on."""
