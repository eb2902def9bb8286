//! The real binary, with what the system knows of its process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::support::{Message, PORTCULLIS, RawClient, TEST_TIMEOUT, TempDir, eventually};

/// A running `portcullis`, killed when dropped. Its config may say `port: 0` everywhere: the banner tells the ports.
pub struct BinaryGateway {
    child: Child,
    /// The process itself, also behind a launcher.
    pid: u32,
    folder: TempDir,
    address: SocketAddr,
    endpoints: Vec<(String, SocketAddr)>,
}

impl BinaryGateway {
    /// Starts it on this config.
    #[track_caller]
    pub fn start(text: &str) -> Self {
        Self::start_with(text, &[], |_| {})
    }

    /// The same through another program that runs it, and with another command's settings.
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
            let said = std::fs::read_to_string(&log).unwrap();
            let whole = said.lines().any(|line| line.contains("readiness on ") && said.ends_with('\n'));
            assert!(whole || child.try_wait().unwrap().is_none(), "it ended: {said}");
            whole.then_some(said)
        });
        let after = |what: &str| {
            let (_, rest) = banner.split_once(&format!("{what} on ")).unwrap_or_else(|| panic!("{what}: {banner}"));
            rest.split([',', '\n']).next().unwrap().parse().unwrap()
        };
        let endpoints = ["admin", "metrics", "readiness"].map(|name| (name.to_owned(), after(name))).to_vec();
        let pid = descendant(child.id());
        Self { address: after("listens"), child, pid, folder, endpoints }
    }

    /// Where the first bind listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to it.
    #[track_caller]
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.address)
    }

    /// Asks one of its own endpoints: `admin`, `metrics` or `readiness`.
    #[track_caller]
    pub fn get(&self, endpoint: &str, path: &str) -> Message {
        self.connect(endpoint).get(path, &[])
    }

    /// A connection to one of them.
    #[track_caller]
    pub fn connect(&self, endpoint: &str) -> RawClient {
        let (_, address) = self.endpoints.iter().find(|(name, _)| name == endpoint).unwrap();
        RawClient::connect(*address)
    }

    /// The value of a series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.get("metrics", "/metrics");
        metrics.text().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Its config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("gw.yaml")
    }

    /// What it said so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.pid.to_string()]).status().unwrap().success());
    }

    /// Whether it has ended, and how.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Bytes of memory that are its own or shared, as the system counts them.
    pub fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Open descriptors.
    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }

    /// Hundredths of a second that it has computed.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let (_, numbers) = stat.rsplit_once(')').unwrap();
        numbers.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }
}

/// The last of the processes that descend from this one, each from the one before.
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
