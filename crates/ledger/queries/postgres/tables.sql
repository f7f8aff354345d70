SELECT table_name::text AS name FROM information_schema.tables
WHERE table_schema = current_schema() AND table_name NOT LIKE '\_%'
ORDER BY table_name
