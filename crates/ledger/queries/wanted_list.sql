SELECT system, entity, epoch, up_to FROM wanted WHERE asked_at > $1
