//! Where a command's config comes from.

use std::io::Read;
use std::path::Path;

use super::ConfigArgs;
use crate::config::{Diagnostic, Loaded, Source, load};

/// What standard input gives at most.
const LARGEST: u64 = 5 << 20;

/// Reads the config that the arguments name. What is wrong is given as text for people.
pub(super) fn config(args: &ConfigArgs) -> Result<Loaded, String> {
    let source = match (&args.file, &args.config) {
        (Some(file), _) if file == "-" => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().take(LARGEST).read_to_end(&mut bytes);
            read.map_err(|error| format!("error: standard input can't be read: {error}\n"))?;
            Source::from_bytes("<stdin>", bytes)
        }
        (Some(file), _) => Source::read(Path::new(file)),
        (None, Some(text)) => Source::from_bytes("<config>", text.clone().into_bytes()),
        (None, None) => return Err("error: no config: name one with `-f FILE`; see `portcullis --help`\n".to_owned()),
    };
    let source = source.map_err(|error| error.render(None))?;
    load(source.clone(), &|name| std::env::var(name).ok()).map_err(|errors| render(&errors, &source))
}

/// Findings as text, with the lines that they are about, and a count when there are several.
pub(super) fn render(findings: &[Diagnostic], source: &Source) -> String {
    let mut text: String = findings.iter().map(|finding| finding.render(Some(source))).collect();
    if findings.len() > 1 {
        text.push_str(&format!("{} errors\n", findings.len()));
    }
    text
}
