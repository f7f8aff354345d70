INSERT INTO orders (id, customer_id, status, total, updated_at) VALUES (?1, ?2, 'open', ?3, ?4)
