//! A config that is given in an argument or through a pipe, and references files.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{TestGateway, yaml};
use crate::support::mint::{self, Alg, Key};
use crate::support::{Backend, PORTCULLIS, RawClient, TEST_TIMEOUT, TempDir, eventually, free_address};

/// Returns a config whose provider has its keys in a file.
fn config_text(backend: &Backend, keys: &Path) -> String {
    let jwt = format!("{{mode: strict, issuer: agentgateway.dev, jwks: {{file: '{}'}}}}", keys.display());
    yaml(backend.address(), &format!("      policies: {{jwtAuth: {jwt}}}\n"))
}

fn bearer(key: &Key) -> String {
    format!("Bearer {}", key.token(&mint::claims()))
}

#[test]
fn referenced_files_are_watched() {
    let (old, new) = (Key::new(Alg::Es256, "old"), Key::new(Alg::Es256, "new"));
    let (backend, folder) = (Backend::ok(), TempDir::new());
    let keys = folder.write("keys.json", mint::jwks([&old]));
    let ops = TestGateway::start(&config_text(&backend, &keys));
    ops.gateway().watch_referenced_files().unwrap();
    let status = |key: &Key| ops.client().get("/", &[("authorization", &bearer(key))]).status();
    assert_eq!((status(&old), status(&new)), (200, 401));
    std::fs::write(&keys, mint::jwks([&new])).unwrap();
    ops.wait_for_generation(2);
    assert_eq!((status(&old), status(&new)), (401, 200));
    std::fs::write(&keys, "no keys").unwrap();
    eventually(TEST_TIMEOUT, "the failed reload", || {
        ops.has_metric("portcullis_config_last_reload_successful 0").then_some(())
    });
    assert_eq!(status(&new), 200, "the old keys stay in use");
    std::fs::write(&keys, mint::jwks([&old])).unwrap();
    ops.wait_for_generation(3);
    assert_eq!(status(&old), 200);
    ops.gateway().reload();
    ops.wait_for_generation(4);
}

/// A running binary, killed when dropped.
struct RunningProcess(Child);

impl Drop for RunningProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_binary_watches_referenced_files_and_reloads_them_on_sighup() {
    let (old, new) = (Key::new(Alg::Es256, "old"), Key::new(Alg::Es256, "new"));
    let (backend, folder) = (Backend::ok(), TempDir::new());
    let keys = folder.write("keys.json", mint::jwks([&old]));
    for by_pipe in [true, false] {
        std::fs::write(&keys, mint::jwks([&old])).unwrap();
        let http = free_address();
        let admin = "adminAddr: '127.0.0.1:0', statsAddr: '127.0.0.1:0', readinessAddr: '127.0.0.1:0'";
        let text = config_text(&backend, &keys)
            .replace("port: 0", &format!("port: {}", http.port()))
            .replace(admin, "adminAddr: off, statsAddr: off, readinessAddr: off");
        let arguments = if by_pipe { ["-f", "-"] } else { ["-c", &*text] };
        let mut command = Command::new(PORTCULLIS);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
        let err = folder.path().join("err");
        command.stderr(std::fs::File::create(&err).unwrap());
        let mut running = RunningProcess(command.spawn().unwrap());
        let mut stdin = running.0.stdin.take().unwrap();
        if by_pipe {
            stdin.write_all(text.as_bytes()).unwrap();
        }
        drop(stdin);
        eventually(TEST_TIMEOUT, "it listens", || std::net::TcpStream::connect(http).is_ok().then_some(()));
        let status = |key: &Key| RawClient::connect(http).get("/", &[("authorization", &bearer(key))]).status();
        assert_eq!((status(&old), status(&new)), (200, 401));
        assert!(Command::new("kill").args(["-HUP", &running.0.id().to_string()]).status().unwrap().success());
        let log = || std::fs::read_to_string(&err).unwrap();
        eventually(TEST_TIMEOUT, "the reload", || log().contains("config reloaded").then_some(()));
        std::fs::write(&keys, mint::jwks([&new])).unwrap();
        eventually(TEST_TIMEOUT, "the new keys", || (status(&new) == 200).then_some(()));
    }
}
