-- name: completed_orders_hold_their_stock(since, most)
-- A completed order has its stock reserved.
select o.id as subject, concat_ws(', ', o.status, r.outcome) as detail, count(*) over () as found
from orders o left join reservations r on r.order_id = o.id
where o.status = 'COMPLETED' and o.updated_at >= :since::timestamptz
  and r.outcome is distinct from 'RESERVED'
limit :most;

-- name: reservations_agree_with_their_orders(most)
-- An order has a reservation only once it is paid; a rejected one is not completed, a released one is
-- cancelled.
select o.id as subject, concat_ws(', ', o.status, r.outcome) as detail, count(*) over () as found
from reservations r join orders o on o.id = r.order_id
where o.status = 'CREATED'
   or (r.outcome = 'REJECTED' and o.status = 'COMPLETED')
   or (r.outcome = 'RELEASED' and o.status <> 'CANCELLED')
limit :most;

-- name: cancelled_orders_give_back_their_stock(rest, most)
-- The stock reserved for a cancelled order is released within the bound.
select o.id as subject, concat_ws(', ', o.status, r.outcome) as detail, count(*) over () as found
from reservations r join orders o on o.id = r.order_id
where o.status = 'CANCELLED' and r.outcome = 'RESERVED' and o.updated_at <= :rest::timestamptz
limit :most;

-- name: stock_is_what_was_stocked_minus_what_is_reserved(most)
-- Of each product: available = initial + restocked - reserved. The subject is the product.
select p.id as subject,
    concat(p.name, ': stocked ', p.stocked, ', available ', p.available, ', reserved ', coalesce(r.pieces, 0))
        as detail,
    count(*) over () as found
from products p
left join (
    select i.product_id, sum(i.quantity) as pieces
    from reservations join order_items i using (order_id)
    where outcome = 'RESERVED'
    group by i.product_id
) as r on r.product_id = p.id
where p.available <> p.stocked - coalesce(r.pieces, 0)
limit :most;

-- name: stock_is_never_oversold(most)
-- The available stock of a product is from 0 to what was stocked. The subject is the product.
select id as subject, concat(name, ': stocked ', stocked, ', available ', available) as detail,
    count(*) over () as found
from products
where available < 0 or available > stocked
limit :most;

-- name: reserved_pieces_are_of_the_catalogue(most)
-- Stock is only reserved of products in the catalogue.
select i.order_id as subject, concat_ws(' ', 'product', i.product_id) as detail, count(*) over () as found
from reservations r join order_items i using (order_id)
where r.outcome = 'RESERVED' and not exists (select from products p where p.id = i.product_id)
limit :most;
