//! The config file: text in, a typed config out, or all errors with their positions.
//!
//! Nothing here opens a socket, reads a key or compiles a rule. Files that the config refers to (keys, certificates) are
//! read when the config is compiled; [`unreadable_file`] builds the errors for them.

mod address_conflicts;
pub mod bind;
mod deserialize;
pub mod diagnostic;
pub mod diagnostic_code;
pub mod effective;
mod env;
mod lint;
pub mod policy;
pub mod process;
pub(crate) mod raw;
mod referenced_files;
mod resolve;
pub mod route;
mod scalar_offsets;
pub mod schema;
pub mod serde_shapes;
pub mod source;
pub mod span;
pub(crate) mod suggest;
pub mod value;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use bind::{BindConfig, ListenerConfig};
pub use diagnostic::{Diagnostic, Severity};
pub use diagnostic_code::DiagnosticCode;
pub use effective::{Effective, PolicyLevel};
pub use env::EnvLookup;
pub(crate) use env::{escape, variable_names};
pub use policy::PoliciesConfig;
pub use process::ProcessConfig;
pub use referenced_files::referenced_files;
pub use route::{BackendConfig, RouteConfig};
pub use source::Source;
pub use span::{SourceSpan, Spanned};

/// A config, independent of the generation of the format that it was written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Settings of the process.
    pub process: ProcessConfig,
    /// The binds with their listeners and routes.
    pub binds: Vec<Arc<BindConfig>>,
}

/// A valid config with its source.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The config.
    pub config: Config,
    /// The text of the config, for errors that are found later.
    pub source: Source,
    /// The warnings.
    pub warnings: Vec<Diagnostic>,
}

/// Loads a config. `env` returns the values of environment variables.
///
/// # Errors
/// All errors, in the order of the file.
pub fn load(source: Source, env: EnvLookup<'_>) -> Result<LoadedConfig, Vec<Diagnostic>> {
    match parse_config(&source, env) {
        Ok(config) => {
            let mut warnings = lint::warnings(&config);
            sort_and_dedup(&mut warnings);
            Ok(LoadedConfig { config, source, warnings })
        }
        Err(mut errors) => {
            sort_and_dedup(&mut errors);
            Err(errors)
        }
    }
}

/// Loads the valid parts of a config with errors, so that later steps can report their errors in the same run. The result is
/// never served.
pub fn load_partially(source: Source, env: EnvLookup<'_>) -> Option<LoadedConfig> {
    let (root, _) = yaml::parse(&source).ok()?;
    let (raw, _) = deserialize::decode_partially(&root, &source, env);
    let config = resolve::resolve(raw?, source.span(root.start, root.start, "")).ok()?;
    Some(LoadedConfig { config, source, warnings: Vec::new() })
}

/// Loads another document with the errors, variables and limits of a config file.
///
/// # Errors
/// All errors, in the order of the file.
pub fn load_document<T: serde::de::DeserializeOwned>(
    source: &Source,
    env: EnvLookup<'_>,
) -> Result<T, Vec<Diagnostic>> {
    let (root, mut errors) = yaml::parse(source).map_err(|error| vec![error])?;
    match deserialize::decode(&root, source, env) {
        Ok(value) if errors.is_empty() => return Ok(value),
        Ok(_) => {}
        Err(more) => errors.extend(more),
    }
    sort_and_dedup(&mut errors);
    Err(errors)
}

fn parse_config(source: &Source, env: EnvLookup<'_>) -> Result<Config, Vec<Diagnostic>> {
    let (root, mut errors) = yaml::parse(source).map_err(|error| vec![error])?;
    match deserialize::decode(&root, source, env) {
        Ok(raw) => {
            let root_span = source.span(root.start, root.start, "");
            match resolve::resolve(raw, root_span) {
                Ok(config) if errors.is_empty() => return Ok(config),
                Ok(_) => {}
                Err(more) => errors.extend(more),
            }
        }
        Err(more) => errors.extend(more),
    }
    Err(errors)
}

/// Sorts findings by position, and removes duplicates of routes that are on several gateways.
fn sort_and_dedup(findings: &mut Vec<Diagnostic>) {
    findings.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
    findings.dedup();
}

/// Returns the error for a referenced file that cannot be read. Relative paths are resolved against the working directory;
/// a hint is added if the file exists next to the config file.
pub fn unreadable_file(file: &Spanned<std::path::PathBuf>, error: &std::io::Error) -> Diagnostic {
    let absolute_path = std::path::absolute(&file.value).unwrap_or_else(|_| file.value.clone());
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no such file: {}", absolute_path.display()),
        _ => format!("the file cannot be read: {}: {error}", absolute_path.display()),
    };
    let finding = Diagnostic::error(file.span.clone(), message).with_code(DiagnosticCode::UnreadableFile);
    let next_to_config = Path::new(&*file.span.file).parent().map(|folder| folder.join(&file.value));
    match next_to_config.filter(|path| file.value.is_relative() && *path != file.value && path.exists()) {
        Some(path) => finding.with_hint(format!(
            "the file exists next to the config file, but paths are relative to the working directory of the gateway; write {}",
            std::path::absolute(&path).unwrap_or(path).display()
        )),
        None => finding,
    }
}
