//! Settings, systems and entities, secrets, validation. The only reader of files and environment for settings.
