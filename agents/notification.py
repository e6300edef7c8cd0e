"""Notification: tells the customer how the order ended."""

from agents.loop import on
from app import notify
from app.topics import OrderCancelled, OrderCompleted

completed = on(OrderCompleted, notify.notify_completed)
cancelled = on(OrderCancelled, notify.notify_cancelled)
