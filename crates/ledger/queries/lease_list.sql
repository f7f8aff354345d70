SELECT * FROM lease ORDER BY name
