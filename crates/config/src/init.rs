//! The files that `alluvium init` writes: a small pipeline that runs as it is.

/// Names and contents of the files of a new project.
pub fn init_files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("alluvium.toml", include_str!("../init/alluvium.toml")),
        ("systems.json", include_str!("../init/systems.json")),
        ("entities.json", include_str!("../init/entities.json")),
        (".env.example", include_str!("../init/env.example")),
        (".gitignore", include_str!("../init/gitignore")),
    ]
}
