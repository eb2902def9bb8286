//! The binary as a child process, with its resource usage as reported by the system.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::support::{Message, PORTCULLIS, RawClient, TEST_TIMEOUT, TempDir, eventually};

/// A running `portcullis`, killed when dropped. Its config may use `port: 0` everywhere: the banner reports the ports.
pub struct BinaryGateway {
    child: Child,
    /// The process id of the gateway, also when it runs under a launcher.
    pid: u32,
    folder: TempDir,
    address: SocketAddr,
    endpoints: Vec<(String, SocketAddr)>,
}

impl BinaryGateway {
    /// Starts the binary with a config.
    #[track_caller]
    pub fn start(text: &str) -> Self {
        Self::start_with(text, &[], |_| {})
    }

    /// Starts the binary under a launcher, with changes to the command.
    #[track_caller]
    pub fn start_with(text: &str, launcher: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let folder = TempDir::new();
        let file = folder.write("gw.yaml", text);
        let log = folder.path().join("err");
        let arguments = [launcher, &[PORTCULLIS, "-f", file.to_str().unwrap()]].concat();
        let mut command = Command::new(arguments[0]);
        command.args(&arguments[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log).unwrap());
        change(&mut command);
        let mut child = command.spawn().expect("portcullis");
        let banner = eventually(TEST_TIMEOUT, "the banner", || {
            let log = std::fs::read_to_string(&log).unwrap();
            let complete = log.lines().any(|line| line.contains("readiness on ") && log.ends_with('\n'));
            assert!(complete || child.try_wait().unwrap().is_none(), "it exited: {log}");
            complete.then_some(log)
        });
        let after = |what: &str| {
            let (_, rest) = banner.split_once(&format!("{what} on ")).unwrap_or_else(|| panic!("{what}: {banner}"));
            rest.split([',', '\n']).next().unwrap().parse().unwrap()
        };
        let endpoints = ["admin", "metrics", "readiness"].map(|name| (name.to_owned(), after(name))).to_vec();
        let pid = descendant(child.id());
        Self { address: after("listens"), child, pid, folder, endpoints }
    }

    /// Returns the address of the first bind.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a connection to the first bind.
    #[track_caller]
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.address)
    }

    /// Sends a request to one of the servers `admin`, `metrics` or `readiness`.
    #[track_caller]
    pub fn get(&self, endpoint: &str, path: &str) -> Message {
        self.connect(endpoint).get(path, &[])
    }

    /// Opens a connection to one of the servers `admin`, `metrics` or `readiness`.
    #[track_caller]
    pub fn connect(&self, endpoint: &str) -> RawClient {
        let (_, address) = self.endpoints.iter().find(|(name, _)| name == endpoint).unwrap();
        RawClient::connect(*address)
    }

    /// Returns the value of a series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.get("metrics", "/metrics");
        metrics.text().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Returns the path of the config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("gw.yaml")
    }

    /// Returns the standard error output so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid.to_string()]).status().unwrap().success());
    }

    /// Returns the exit status if the process has exited.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Returns the resident memory in bytes.
    pub fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Returns the number of open file descriptors.
    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// Returns the CPU time in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let (_, numbers) = stat.rsplit_once(')').unwrap();
        numbers.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }
}

/// Returns the last process in the chain of first children.
fn descendant(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    match children.split_whitespace().next() {
        Some(child) => descendant(child.parse().unwrap()),
        None => pid,
    }
}

impl Drop for BinaryGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.pid != self.child.id() {
            let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}
