"""Stripe: its webhook, its API client, and the due calls to it."""
