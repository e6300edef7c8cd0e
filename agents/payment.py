"""Payment: captures what was asked for, and gives back what must not be kept."""

from agents.loop import on
from app import payments
from app.topics import OrderCancelled, PaymentRequested, RefundRequested

capture = on(PaymentRequested, payments.capture)
request_refunds = on(OrderCancelled, payments.request_refunds)
refund = on(RefundRequested, payments.refund)
