INSERT INTO customers (id, name, email, updated_at) VALUES (?1, ?2, ?3, ?4)
