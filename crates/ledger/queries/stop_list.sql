SELECT * FROM layer_stop ORDER BY system, entity, layer
