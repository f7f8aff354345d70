CREATE TABLE customers (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    email      TEXT NOT NULL,
    updated_at DATETIME NOT NULL
);

CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    status      TEXT NOT NULL,
    total       DECIMAL(12, 2) NOT NULL,
    updated_at  DATETIME NOT NULL
);

CREATE INDEX orders_by_change ON orders (updated_at);
