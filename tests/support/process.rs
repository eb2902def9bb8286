//! The `portcullis` binary, started as a user would start it.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{TEST_TIMEOUT, TempDir, eventually};

/// The root of the repository, from which every example runs.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The path of the binary.
pub const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

/// A running `portcullis`, killed when dropped.
pub struct ChildProcess {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl ChildProcess {
    /// Serves a config that uses `port: 3000` on a free port instead, without admin, metrics and readiness addresses.
    #[track_caller]
    pub fn gateway(yaml: &str) -> Self {
        assert!(yaml.contains("port: 3000") && !yaml.contains("\nconfig:"), "a config as in examples/");
        let address = free_address();
        let yaml = yaml.replace("port: 3000", &format!("port: {}", address.port()));
        let folder = TempDir::new();
        let disabled_addresses = "\nconfig: {adminAddr: off, statsAddr: off, readinessAddr: off}\n";
        let file = folder.write("portcullis.yaml", yaml + disabled_addresses);
        Self::start(&["-f", file.to_str().unwrap()], address, folder)
    }

    #[track_caller]
    fn start(arguments: &[&str], address: SocketAddr, folder: TempDir) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(PORTCULLIS);
        command.args(arguments).current_dir(ROOT).stdin(Stdio::null());
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().expect("portcullis");
        drop(command); // closes the write ends of the pipe in this process
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = { reader }.read_to_string(&mut text);
            text
        });
        let mut process = Self { child, address, _folder: folder };
        let ended = eventually(TEST_TIMEOUT, "portcullis listens", || match TcpStream::connect(address) {
            Ok(_) => Some(None),
            Err(_) => process.child.try_wait().unwrap().map(Some),
        });
        if let Some(status) = ended {
            panic!("portcullis {arguments:?} ended with {status}:\n{}", log.join().unwrap());
        }
        process
    }

    /// Returns the listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends SIGTERM, waits, and returns the exit status.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        let kill_status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(kill_status.success());
        eventually(TEST_TIMEOUT, "portcullis ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a loopback address whose port was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}
