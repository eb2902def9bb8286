//! The config file: text in, a typed tree in one dialect out, or everything that is wrong with it, each at its place.
//!
//! What was written is kept apart from what runs: nothing here opens a socket, reads a key or compiles a rule. What
//! the file names (keys, certificates) is read by the step that comes next; [`missing_file`] words its errors.

pub mod bind;
pub mod code;
mod decode;
mod dialect;
pub mod error;
mod expand;
mod files;
mod lint;
pub(crate) mod node;
pub mod place;
pub mod policy;
pub mod process;
pub mod route;
mod scalar;
pub mod schema;
pub mod shape;
mod sockets;
pub mod source;
mod suggest;
pub mod value;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use bind::{Bind, Listener};
pub use code::Code;
pub use error::{Diagnostic, Severity};
pub use expand::Env;
pub(crate) use expand::{escape, variables};
pub use files::named as named_files;
pub use place::{Located, Place};
pub use policy::Policies;
pub use process::Process;
pub use route::{Backend, Route};
pub use source::Source;

/// A config file, whatever dialect it was written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What belongs to the whole process.
    pub process: Process,
    /// The sockets and everything on them.
    pub binds: Vec<Bind>,
}

/// A config that holds together, and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// Its text, for errors that only show later.
    pub source: Source,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a config. `env` gives the values of environment variables.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn load(source: Source, env: Env<'_>) -> Result<Loaded, Vec<Diagnostic>> {
    match read(&source, env) {
        Ok(config) => {
            let mut warnings = lint::warnings(&config);
            in_order(&mut warnings);
            Ok(Loaded { config, source, warnings })
        }
        Err(mut errors) => {
            in_order(&mut errors);
            Err(errors)
        }
    }
}

/// What is left of a config with errors when they are left out, so that the steps behind can tell theirs in the same
/// run. It is never served.
pub fn salvage(source: Source, env: Env<'_>) -> Option<Loaded> {
    let (root, _) = node::parse(&source).ok()?;
    let (written, _) = decode::salvage(&root, &source, env);
    let config = dialect::normalise(written?, source.place(root.start, root.start, "")).ok()?;
    Some(Loaded { config, source, warnings: Vec::new() })
}

/// Reads another document by the rules of the config file: the same errors, variables and limits.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn document<T: serde::de::DeserializeOwned>(source: &Source, env: Env<'_>) -> Result<T, Vec<Diagnostic>> {
    let (root, mut errors) = node::parse(source).map_err(|error| vec![error])?;
    match decode::decode(&root, source, env) {
        Ok(value) if errors.is_empty() => return Ok(value),
        Ok(_) => {}
        Err(more) => errors.extend(more),
    }
    in_order(&mut errors);
    Err(errors)
}

fn read(source: &Source, env: Env<'_>) -> Result<Config, Vec<Diagnostic>> {
    let (root, mut errors) = node::parse(source).map_err(|error| vec![error])?;
    match decode::decode(&root, source, env) {
        Ok(written) => {
            let whole = source.place(root.start, root.start, "");
            match dialect::normalise(written, whole) {
                Ok(config) if errors.is_empty() => return Ok(config),
                Ok(_) => {}
                Err(more) => errors.extend(more),
            }
        }
        Err(more) => errors.extend(more),
    }
    Err(errors)
}

/// Sorts findings by their place, and drops what a route on several gateways would tell twice.
fn in_order(findings: &mut Vec<Diagnostic>) {
    findings.sort_by(|a, b| (a.place.start, &a.message).cmp(&(b.place.start, &b.message)));
    findings.dedup();
}

/// The error for a file that the config names and that can't be read. Relative paths start at the directory that the
/// process runs in; when the file lies beside the config instead, the error says so.
pub fn missing_file(named: &Located<std::path::PathBuf>, error: &std::io::Error) -> Diagnostic {
    let tried = std::path::absolute(&named.value).unwrap_or_else(|_| named.value.clone());
    let finding = match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no such file: {}", tried.display()),
        _ => format!("the file can't be read: {}: {error}", tried.display()),
    };
    let finding = Diagnostic::error(named.place.clone(), finding).code(Code::NamedFile);
    let beside = Path::new(&*named.place.file).parent().map(|folder| folder.join(&named.value));
    match beside.filter(|path| named.value.is_relative() && *path != named.value && path.exists()) {
        Some(path) => finding.hint(format!(
            "it exists beside the config file: paths are relative to the directory that the gateway runs in; write {}",
            std::path::absolute(&path).unwrap_or(path).display()
        )),
        None => finding,
    }
}
