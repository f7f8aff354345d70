DELETE FROM customers
WHERE id = (
    SELECT id FROM customers AS c
    WHERE NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.customer_id = c.id)
    ORDER BY id LIMIT 1
)
