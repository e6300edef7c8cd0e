"""Checkout: notes that Stripe has to be called for a session; a task of the worker calls it."""

from agents.loop import on
from app import checkout
from app.order_rows import Reads
from app.topics import CheckoutRequested

note_call = on(CheckoutRequested, checkout.note_call, reads=Reads.MONEY)
