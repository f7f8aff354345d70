SELECT epoch, to_offset, left_records, left_checksum, right_records, right_checksum
FROM (
    SELECT a.epoch AS epoch, a.to_offset AS to_offset,
        a.total_records AS left_records, a.total_checksum AS left_checksum,
        b.total_records AS right_records, b.total_checksum AS right_checksum,
        row_number() OVER (PARTITION BY a.epoch ORDER BY a.to_offset DESC) AS place
    FROM batch a
    JOIN batch b ON b.system = a.system AND b.entity = a.entity AND b.layer = $4
        AND b.epoch = a.epoch AND b.to_offset = a.to_offset
    WHERE a.system = $1 AND a.entity = $2 AND a.layer = $3
) AS common
WHERE place = 1
ORDER BY epoch
