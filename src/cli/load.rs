//! Where a command's config comes from.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::online::What;
use super::output::{self, Paint};
use super::{BAD_CONFIG, ConfigArgs, online, say};
use crate::compile::{Kept, compile, compile_with};
use crate::config::{Code, Diagnostic, Loaded, Place, Source, load, salvage};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;

/// What standard input gives at most.
const LARGEST: u64 = 5 << 20;

/// A config that does not load or compile: what is wrong, and its text if there is one.
pub(super) struct Broken {
    pub(super) name: String,
    pub(super) source: Option<Source>,
    pub(super) findings: Vec<Diagnostic>,
}

impl Broken {
    /// Says what is wrong, and gives the exit code for it.
    pub(super) fn tell(&self) -> ExitCode {
        say(self.text().trim_end());
        ExitCode::from(BAD_CONFIG)
    }

    /// What is wrong, for people.
    pub(super) fn text(&self) -> String {
        output::findings(&self.findings, self.source.as_ref(), Paint::stderr())
    }
}

/// The name of a config that errors use.
fn name(args: &ConfigArgs) -> &str {
    match (&args.file, &args.config) {
        (Some(file), _) if file == "-" => "<stdin>",
        (Some(file), _) => file,
        (None, _) => "<config>",
    }
}

fn source(args: &ConfigArgs) -> Result<Source, Diagnostic> {
    let name = name(args);
    match (&args.file, &args.config) {
        (Some(file), _) if file == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().take(LARGEST).read_to_end(&mut bytes).map_err(|error| {
                let message = format!("standard input can't be read: {error}");
                Diagnostic::error(Place::start_of(&name.into()), message).code(Code::File)
            })?;
            Source::from_bytes(name, bytes)
        }
        (Some(file), _) => Source::read(Path::new(file)),
        (None, Some(text)) => Source::from_bytes(name, text.clone().into_bytes()),
        (None, None) => {
            let error = Diagnostic::error(Place::start_of(&name.into()), "no config was named").code(Code::File);
            Err(error.hint("name one with `-f FILE`, or see `portcullis --help`"))
        }
    }
}

/// Reads the config that the arguments name.
pub(super) fn config(args: &ConfigArgs) -> Result<Loaded, Broken> {
    let name = name(args).to_owned();
    let source = match source(args) {
        Ok(source) => source,
        Err(error) => return Err(Broken { name, source: None, findings: vec![error] }),
    };
    let env = |name: &str| std::env::var(name).ok();
    load(source.clone(), &env).map_err(|mut findings| {
        // one run tells everything: rules and named files are looked at even if other parts are wrong
        if let Some(rest) = salvage(source.clone(), &env)
            && let Err(more) = compile(&rest, &Arc::new(Metrics::default()), 1)
        {
            // what only follows from a part that was left out is no news
            let follows = |finding: &Diagnostic| {
                findings.iter().any(|known| (finding.place.start..finding.place.end).contains(&known.place.start))
            };
            let news: Vec<Diagnostic> = more.into_iter().filter(|finding| !follows(finding)).collect();
            findings.extend(news);
            findings.sort_by_key(|finding| finding.place.start);
            findings.dedup();
        }
        Broken { name, source: Some(source), findings }
    })
}

/// Reads and compiles it. Nothing is bound, nobody is asked.
pub(super) fn compiled(args: &ConfigArgs) -> Result<(Loaded, Snapshot), Broken> {
    compiled_with(args, &Kept::new(None))
}

/// The same; the keys that have a URL are those of `kept`.
pub(super) fn compiled_with(args: &ConfigArgs, kept: &Kept) -> Result<(Loaded, Snapshot), Broken> {
    let loaded = config(args)?;
    match compile_with(&loaded, &Arc::new(Metrics::default()), kept, 1) {
        Ok(snapshot) => Ok((loaded, snapshot)),
        Err(findings) => Err(Broken { name: name(args).to_owned(), source: Some(loaded.source), findings }),
    }
}

/// The same with `online`: every key that has a URL is fetched, once, in the foreground. What can't be fetched is said,
/// and is no failure: what follows from it shows in the result.
pub(super) fn compiled_online(args: &ConfigArgs, online: bool) -> Result<(Loaded, Snapshot), Broken> {
    let kept = Arc::new(Kept::new(None));
    let (loaded, snapshot) = compiled_with(args, &kept)?;
    if online {
        match online::ask(&loaded, &snapshot, &kept, What::Keys) {
            Ok(asked) => {
                let findings: Vec<Diagnostic> = asked.iter().flat_map(|one| one.findings().to_vec()).collect();
                let told = output::findings(&findings, Some(&loaded.source), Paint::stderr());
                if !told.is_empty() {
                    say(told.trim_end());
                }
            }
            Err(error) => say(format_args!("error: nobody can be asked: {error}")),
        }
    }
    Ok((loaded, snapshot))
}
