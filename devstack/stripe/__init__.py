"""A stand-in for Stripe: sessions, a checkout page, refunds and signed webhooks, all in memory."""

from devstack.stripe.server import Stripe

__all__ = ["Stripe"]
