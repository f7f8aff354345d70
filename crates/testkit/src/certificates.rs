//! Certificates for tests, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::required;

/// Certificates in a folder of their own, each with its key: `ca`, which vouches for `server` (at
/// 127.0.0.1) and `client`, and `other`, an authority that vouches for nobody.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them. `None` where there is no openssl.
    pub fn make() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
        let named = ["-addext", "subjectAltName=IP:127.0.0.1"];
        let server = [&by_ca[..], &named].concat();
        let wanted: [(&str, &[&str]); 4] =
            [("ca", &[]), ("other", &[]), ("server", &server), ("client", &by_ca)];
        let made = wanted.iter().all(|(name, more)| certificate(folder.path(), name, more));
        made.then_some(Self { folder })
    }

    /// Where they stand.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate of somebody.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.pem"))
    }

    /// The key of somebody.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.key"))
    }
}

/// Makes an authority, or what it vouches for. `false` where there is no openssl.
fn certificate(folder: &Path, name: &str, more: &[&str]) -> bool {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}"), "-keyout"]);
    openssl.arg(format!("{name}.key")).arg("-out").arg(format!("{name}.pem")).args(more);
    let Ok(output) = openssl.current_dir(folder).output() else {
        assert!(!required(), "openssl is not there: Debian package `openssl`");
        eprintln!("SKIPPED: openssl is not there: Debian package `openssl`");
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}
