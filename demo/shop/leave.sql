-- Every fifth customer never orders: the first of them leaves.
DELETE FROM customers WHERE id = (SELECT min(id) FROM customers WHERE id % 5 = 0)
