SELECT told FROM worker WHERE expires_at > $1 ORDER BY id
