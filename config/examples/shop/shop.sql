-- A small shop: whose rows to change while Alluvium runs.
CREATE TABLE customers (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    email TEXT
);

CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    status      TEXT NOT NULL,
    total       DECIMAL(12, 2) NOT NULL,
    updated_at  TEXT NOT NULL
);

INSERT INTO customers VALUES
    (1, 'Ada', 'ada@example.org'),
    (2, 'Grace', 'grace@example.org');

INSERT INTO orders VALUES
    (1, 1, 'paid', 120.50, '2026-11-01T10:00:00Z'),
    (2, 2, 'open', 80, '2026-11-02T11:30:00Z');
