SELECT token FROM lease WHERE name = $1
