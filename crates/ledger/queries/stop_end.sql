DELETE FROM layer_stop WHERE system = $1 AND entity = $2 AND layer = $3
