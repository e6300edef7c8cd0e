-- name: order_of_payment(id)$
-- The order that a payment is for.
select order_id from payments where id = :id;
