"""Notification: tells the customer how the order ended."""

from agents.loop import on
from app import database, settings
from app.notify import Notifier, channels
from app.topics import OrderCancelled, OrderCompleted

notifier = Notifier(database, channels(settings.smtp_url, settings.mail_from))

completed = on(OrderCompleted, act=notifier.tell_completed)
cancelled = on(OrderCancelled, act=notifier.tell_cancelled)
