//! Checks the README: its demo runs, its sessions print the output shown, its configs load, and its links resolve.
//!
//! With `PORTCULLIS_BLESS=1`, the output of the sessions in the README is replaced by the actual output.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use regex::Regex;
use support::{PORTCULLIS, ROOT, TEST_TIMEOUT, TempDir, eventually};

/// The limit for building the demo from scratch.
const BUILD_TIMEOUT: Duration = Duration::from_secs(600);

fn readme() -> String {
    std::fs::read_to_string(format!("{ROOT}/README.md")).expect("README.md")
}

/// A fenced block: the info string of the opening fence, and the lines inside.
#[derive(Debug, PartialEq)]
struct Block {
    info: String,
    text: String,
}

fn fenced_blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in markdown.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some(Block { info: info.to_owned(), text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "unclosed fenced block");
    blocks
}

/// One command of a session, with its output.
#[derive(Debug, PartialEq)]
struct Exchange {
    command: String,
    output: String,
}

fn parse_session(session: &str) -> Vec<Exchange> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in session.lines() {
        match (line.strip_prefix("$ "), exchanges.last_mut()) {
            (Some(command), _) => exchanges.push(Exchange { command: command.to_owned(), output: String::new() }),
            (None, Some(last)) if last.output.is_empty() && last.command.ends_with('\\') => {
                last.command += &format!("\n{line}");
            }
            (None, Some(last)) => last.output += &format!("{line}\n"),
            (None, None) => panic!("a session must begin with a command: {line:?}"),
        }
    }
    exchanges
}

/// Replaces everything that differs from run to run.
fn normalized(output: &str) -> String {
    let mut text = output.to_owned();
    for (pattern, replacement) in [
        (r"(?m)^date: .*$", "date: …"),
        (r#""x-request-id": \["[^"]+"\]"#, r#""x-request-id": ["…"]"#),
        (r#""traceparent": \["[^"]+"\]"#, r#""traceparent": ["…"]"#),
        (r"curl/[0-9.]+(-DEV)?", "curl/…"),
        (r#"\["::1"\]"#, r#"["127.0.0.1"]"#), // localhost may resolve to either first
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
    }
    text.trim_end().to_owned()
}

/// The running demo, killed on drop if the test did not stop it.
struct Demo {
    child: Child,
    port: u16,
}

impl Demo {
    /// Builds the demo like the command in the README does, and runs it on a free port.
    fn start() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--example", "demo", "--message-format", "json"]).current_dir(ROOT);
        // These variables are set for the test, and would make the inner cargo rebuild everything.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
            cargo.env_remove(name);
        }
        cargo.env_remove("CARGO_MANIFEST_DIR");
        let built = cargo.stderr(Stdio::inherit()).output().expect("cargo");
        assert!(built.status.success(), "cargo run --example demo does not build");
        let executable = String::from_utf8(built.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "demo")
            .find_map(|message| message["executable"].as_str().map(str::to_owned))
            .expect("the demo's executable");

        let mut child = Command::new(executable).arg("0").current_dir(ROOT).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, output_lines) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Reads to the end even without a receiver: a full pipe would block the demo.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let mut demo = Self { child, port: 0 };
        while demo.port == 0 {
            let line = output_lines.recv_timeout(BUILD_TIMEOUT).expect("the demo prints its address");
            if let Some(rest) = line.strip_prefix("gateway on http://localhost:") {
                demo.port = rest.split(',').next().and_then(|port| port.parse().ok()).expect("a port");
            }
        }
        demo
    }

    /// Runs a command of the README, and returns its output with the port that the README shows.
    fn run(&self, command: &str) -> String {
        let path = std::env::join_paths(
            [Path::new(PORTCULLIS).parent().unwrap().to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let (documented_host, demo_host) = ("localhost:3000", format!("localhost:{}", self.port));
        let output = Command::new("sh")
            .args(["-c", &command.replace(documented_host, &demo_host)])
            .env("PATH", path.unwrap())
            .envs([("NO_PROXY", "localhost"), ("no_proxy", "localhost")])
            .current_dir(ROOT)
            .output()
            .expect("sh");
        String::from_utf8(output.stdout).expect("text").replace('\r', "").replace(&demo_host, documented_host)
    }

    /// Sends SIGINT, like Ctrl-C in a terminal, and checks that the demo exits successfully.
    fn stop(mut self) {
        let kill_status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill");
        assert!(kill_status.success());
        let status = eventually(TEST_TIMEOUT, "the demo ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn readme_sessions_print_the_output_shown() {
    let readme = readme();
    for command in ["cargo run --example demo ", "cargo test "] {
        assert!(
            fenced_blocks(&readme).iter().any(|block| block.info == "sh" && block.text.contains(command)),
            "{command}"
        );
    }
    let demo = Demo::start();
    let (mut blessed, mut mismatches, mut count) = (readme.clone(), Vec::new(), 0);
    for session in fenced_blocks(&readme).iter().filter(|block| block.info == "console") {
        let mut lines = String::new();
        for Exchange { command, output } in parse_session(&session.text) {
            count += 1;
            let actual = demo.run(&command);
            let is_match = normalized(&actual) == normalized(&output);
            let shown = if is_match { &output } else { &actual };
            lines += &format!("{}$ {command}\n{}\n", if lines.is_empty() { "" } else { "\n" }, shown.trim_end());
            if !is_match {
                mismatches.push(format!("$ {command}\n--- the README\n{}\n--- actual\n{}", output.trim_end(), actual));
            }
        }
        blessed = blessed.replace(&format!("```console\n{}```", session.text), &format!("```console\n{lines}```"));
    }
    demo.stop();
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(format!("{ROOT}/README.md"), blessed).unwrap();
        return;
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n\n"));
    assert!(count >= 4, "the README shows {count} commands");
}

#[test]
fn readme_configs_load() {
    let (folder, readme) = (TempDir::new(), readme());
    let configs: Vec<_> = fenced_blocks(&readme).into_iter().filter(|block| block.info.starts_with("yaml")).collect();
    assert!(configs.len() >= 2);
    for config in configs {
        if let Some(title) = config.info.strip_prefix("yaml title=") {
            let file = std::fs::read_to_string(Path::new(ROOT).join(title)).expect(title);
            assert_eq!(config.text, file, "the README must show {title} unchanged");
        }
        let file = folder.write("readme.yaml", &config.text);
        let validated =
            Command::new(PORTCULLIS).args(["validate", "-f"]).arg(file).current_dir(ROOT).output().expect("portcullis");
        let stderr = String::from_utf8_lossy(&validated.stderr);
        assert!(validated.status.success(), "{}{stderr}\n{}", String::from_utf8_lossy(&validated.stdout), config.text);
    }
}

#[test]
fn readme_links_resolve() {
    let readme = readme();
    let links = Regex::new(r"\]\(([^)#:]+)\)").unwrap();
    let arguments = Regex::new(r"\b(?:examples|manifests)/[\w./-]*\w").unwrap();
    let linked = links.captures_iter(&readme).map(|found| found[1].to_owned());
    let named = arguments.find_iter(&readme).map(|found| found.as_str().to_owned());
    let mut count = 0;
    for file in linked.chain(named) {
        assert!(Path::new(ROOT).join(&file).exists(), "{file}");
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn readme_lists_every_example() {
    let readme = readme();
    for entry in std::fs::read_dir(format!("{ROOT}/examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".rs") || readme.contains(&format!("examples/{name}")), "{name}");
    }
}

#[test]
fn sessions_are_parsed_into_commands_and_output() {
    let markdown = "a\n```sh\nx\n```\n```console\n$ curl \\\n  -i x\nHTTP\n\nbody\n\n$ true\n```\n";
    let [shell, session] = &fenced_blocks(markdown)[..] else { panic!("two blocks") };
    assert_eq!((shell.info.as_str(), shell.text.as_str()), ("sh", "x\n"));
    let expected = [("curl \\\n  -i x", "HTTP\n\nbody\n\n"), ("true", "")]
        .map(|(command, output)| Exchange { command: command.to_owned(), output: output.to_owned() });
    assert_eq!(parse_session(&session.text), expected);
}

#[test]
fn normalization_only_hides_what_differs_from_run_to_run() {
    let first = "date: Sat, 21 Nov 2026 23:00:00 GMT\n\"x-request-id\": [\"a1\"]\ncurl/7.88.1 [\"::1\"]\n";
    let second = "date: Sun, 22 Nov 2026 00:00:01 GMT\n\"x-request-id\": [\"b2\"]\ncurl/8.9 [\"127.0.0.1\"]";
    assert_eq!(normalized(first), normalized(second));
    for changed in ["HTTP/1.1 200 OK", "x-date: 1", "\"x-request-id\": []", "[\"10.0.0.1\"]"] {
        assert_ne!(normalized(&format!("{first}{changed}")), normalized(first), "{changed}");
    }
}
