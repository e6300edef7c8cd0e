"""Stripe: its webhook, its API, and the calls of it that are due."""
