"""Checkout: has Stripe called for a session. The calls are made by a task of the worker."""

from agents.loop import on
from app import checkout
from app.order_rows import Reads
from app.topics import CheckoutRequested

note_call = on(CheckoutRequested, checkout.note_call, reads=Reads.MONEY)
