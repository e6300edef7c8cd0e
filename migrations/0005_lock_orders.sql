-- Everything that the handlers of a batch want to know of its orders, in one round trip: a statement
-- sees what was committed when it began, so what it reads behind a lock that it had to wait for may
-- be old. Each statement of this function begins anew.

-- Lock the orders, and the products that inventory has still to decide on for `stock_of`, each in id
-- order, so that no two transactions wait in a circle; then read. Payments change under their order's
-- lock only.
-- `payments` are JSON objects, the oldest first, each with what its provider reported and the refunds
-- asked for; `lines`, of undecided orders only, are JSON arrays of product, pieces and what is available.
create function lock_orders(ids uuid[], money_of uuid[], stock_of uuid[]) returns table (
    id             uuid,
    user_id        uuid,
    status         text,
    version        integer,
    total_minor    bigint,
    currency       text,
    customer_email text,
    cancel_reason  text,
    updated_at     timestamptz,
    payments       json,
    lines          json
) language plpgsql as $$
#variable_conflict use_column
begin
    perform from orders where id = any(ids) order by id for no key update;
    if cardinality(stock_of) > 0 then
        perform from products
        where id in (
            select product_id from order_items i
            where order_id = any(stock_of)
              and not exists (select from reservations r where r.order_id = i.order_id)
        )
        order by id
        for no key update;
    end if;
    return query
    select o.id, o.user_id, o.status, o.version, o.total_minor, o.currency, o.customer_email,
        o.cancel_reason, o.updated_at,
        case when o.id = any(money_of) then (
            select json_agg(account order by account.created_at, account.id)
            from (
                select p.*, (
                    select json_agg(json_build_array(
                        kind, amount_minor, currency, provider_refund_id, refund_status, refund_id, reason
                    ))
                    from provider_events where payment_id = p.id and kind is not null
                ) as facts, (
                    select json_agg(json_build_array(id, amount_minor, refused_reason))
                    from refunds where payment_id = p.id
                ) as refunds
                from payments p
                where p.order_id = o.id
            ) as account
        ) end,
        case when o.id = any(stock_of) then (
            select json_agg(json_build_array(i.product_id, i.quantity, p.available) order by i.line)
            from order_items i join products p on p.id = i.product_id
            where i.order_id = o.id
              and not exists (select from reservations r where r.order_id = o.id)
        ) end
    from orders o
    where o.id = any(ids);
end $$;
