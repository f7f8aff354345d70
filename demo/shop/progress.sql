UPDATE orders
SET status = CASE WHEN ?2 THEN 'cancelled' WHEN status = 'open' THEN 'paid' WHEN status = 'paid' THEN 'shipped' ELSE 'delivered' END,
    updated_at = ?3
WHERE id = ?1 AND status NOT IN ('delivered', 'cancelled')
