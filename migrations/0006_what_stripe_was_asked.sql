-- What Stripe was asked first for a session. Under one idempotency key it takes nothing else, though a
-- product has another name by now, or a worker asks again that would send customers somewhere else.
alter table provider_calls add column asked json;
