"""Notification: tells the customer how the order ended."""

from agents.loop import on
from app import settings
from app.notify import Notifier
from app.topics import OrderCancelled, OrderCompleted

notifier = Notifier(sends_mail=settings.smtp_url is not None)

completed = on(OrderCompleted, notifier.tell_completed, locks=False)
cancelled = on(OrderCancelled, notifier.tell_cancelled, locks=False)
