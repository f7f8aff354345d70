//! An object store that speaks S3.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{free_port, required};
use crate::server::{Server, find, folder, http_get};

/// An S3 server (moto) with the one bucket `lake`, open to everybody. It keeps everything in
/// memory: what was stored is gone when it ends.
pub struct S3Server {
    /// The process.
    pub server: Server,
    port: u16,
}

impl S3Server {
    /// Starts one.
    pub fn start() -> Option<Self> {
        let program = moto()?;
        let port = free_port();
        let launch = move || {
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        };
        let server = Server::start("moto_server", folder("s3"), launch, move || {
            http_get(port, "/moto-api/data.json").is_some()
        });
        let this = Self { server, port };
        this.bucket("lake");
        Some(this)
    }

    /// Where it listens, such as `http://127.0.0.1:9000`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A line to it on which things can go wrong.
    pub fn proxy(&self) -> crate::S3Proxy {
        crate::S3Proxy::to(self.port)
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        write!(stream, "PUT /{name} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.lines().next().unwrap().contains(" 200 "), "{answer}");
    }
}

/// The program from the Python environment of the tests, which is made if tests may not be skipped.
fn moto() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/alluvium/tools"));
    let tools = std::env::var_os("ALLUVIUM_TOOLS").map(PathBuf::from).or(home)?;
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/readers/setup.sh");
    if required() {
        assert!(Command::new(setup).status().unwrap().success(), "tests/readers/setup.sh failed");
    }
    find("moto_server", &[tools.join("readers/bin/moto_server")], "run tests/readers/setup.sh")
}
