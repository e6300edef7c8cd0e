-- What Stripe was asked first for a session. Under one idempotency key it takes nothing else, though a
-- product has another name by now, or a worker asks again that would send customers somewhere else.
alter table provider_calls add column asked json;

-- What became of a session that was complete when its order had ended was left to its webhook alone. In a
-- day, for a worker of the version before would leave it so once more.
update provider_calls c
set done_at = null, due_at = now() + interval '1 day', attempts = 0
from payments p
where c.kind = 'expire' and p.id = c.payment_id and p.status = 'VOIDED' and p.session_id is not null
  and not exists (
      select from provider_events e
      where e.payment_id = p.id and e.kind in ('captured', 'failed')
  );
