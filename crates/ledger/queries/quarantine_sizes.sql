SELECT system, entity, count(*) AS waiting FROM quarantine WHERE status = 'open'
GROUP BY system, entity ORDER BY system, entity
