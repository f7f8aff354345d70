INSERT INTO batch (
    batch_id, layer, system, entity, epoch, after_offset, to_offset, run_id, applied_at,
    published_at, from_lake, table_version, checksum, total_checksum, records, inserted,
    updated, deleted, unchanged, duplicate, stale, control, quarantined, late, rows_opened,
    rows_closed, rows_rewritten, bytes, total_records, total_inserted, total_updated,
    total_deleted, total_unchanged, total_duplicate, total_stale, total_control,
    total_quarantined, total_late)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38)
