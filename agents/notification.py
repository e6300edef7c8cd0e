"""Notification agents: tell the customer that the order was completed or cancelled."""

from agents.loop import on
from app import settings
from app.notify import Notifier
from app.order_locks import Reads
from app.topics import OrderCancelled, OrderCompleted

notifier = Notifier(sends_mail=settings.smtp_url is not None)

completed = on(OrderCompleted, notifier.tell_completed, reads=Reads.NOTHING)
cancelled = on(OrderCancelled, notifier.tell_cancelled, reads=Reads.NOTHING)
