UPDATE metadata_revision SET revision = revision + 1
