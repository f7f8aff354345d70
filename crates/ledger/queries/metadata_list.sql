SELECT kind, name, spec, since FROM metadata ORDER BY kind DESC, name
