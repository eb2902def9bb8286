//! `portcullis import`: manifests of another gateway in, a config out, and a report of what became of each field.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{BAD_CONFIG, FAILED, say};
use crate::config::{Code, Source, load};
use crate::import::{Dialect, Mapping, Options, Verdict, import};

/// What standard input gives at most.
const LARGEST: u64 = 5 << 20;

/// Whose manifests, and how.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Whose manifests they are.
    #[arg(value_enum)]
    from: From,
    /// Kubernetes manifests, each with any number of documents; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Where a service is reached from here; may be given several times.
    #[arg(long, value_name = "NAMESPACE/SERVICE=HOST:PORT")]
    map: Vec<Mapping>,
    /// How the config is written; `text` is YAML.
    #[arg(long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    output: Output,
    /// The folder for certificates that stand in the manifests, which the config names as files.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<String>,
    /// A proxy in front whose word about who the client is counts; may be given several times.
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<String>,
    /// Import the rest when a part can't be imported, and let nobody into what that part was for.
    #[arg(long)]
    allow_partial: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// RequestAuthentication, AuthorizationPolicy, Gateway, VirtualService, and the Gateway API.
    Istio,
    /// SecurityPolicy on the Gateway API.
    EnvoyGateway,
    /// AgentgatewayPolicy on the Gateway API.
    Agentgateway,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// With comments that name the source of each part.
    #[value(alias = "text")]
    Yaml,
    /// Without comments.
    Json,
}

pub(super) fn main(args: &ImportArgs) -> ExitCode {
    let mut sources = Vec::new();
    if args.files.iter().filter(|file| *file == "-").count() > 1 {
        say("error: `-` is given twice, and standard input can be read once");
        return ExitCode::from(BAD_CONFIG);
    }
    if let Some(twice) = mapped_twice(&args.map) {
        say(format_args!("error: `--map` has two addresses for {twice}"));
        return ExitCode::from(BAD_CONFIG);
    }
    for file in &args.files {
        match source(file) {
            Ok(source) => sources.push(source),
            Err(text) => {
                say(text.trim_end());
                return ExitCode::from(BAD_CONFIG);
            }
        }
    }
    let dialect = match args.from {
        From::Istio => Dialect::Istio,
        From::EnvoyGateway => Dialect::EnvoyGateway,
        From::Agentgateway => Dialect::Agentgateway,
    };
    let options = Options {
        map: args.map.clone(),
        allow_partial: args.allow_partial,
        out_dir: args.out_dir.clone(),
        trusted_proxies: args.trusted_proxy.clone(),
    };
    let imported = match import(dialect, &sources, &options) {
        Ok(imported) => imported,
        Err(errors) => {
            for error in errors {
                let own = sources.iter().find(|source| *source.name() == error.place.file);
                say(error.render(own).trim_end());
            }
            return ExitCode::from(BAD_CONFIG);
        }
    };
    for finding in &imported.findings {
        say(finding);
    }
    let refused = imported.findings.iter().filter(|finding| finding.verdict == Verdict::Refused).count();
    let Some(config) = imported.config else {
        say(match refused {
            0 => "error: there is nothing to serve in these files".to_owned(),
            number => format!(
                "error: not imported: {number} refused above; `--allow-partial` imports the rest, and lets nobody into \
                 what these were for"
            ),
        });
        return ExitCode::from(FAILED);
    };
    let text = match args.output {
        Output::Yaml => config.yaml(),
        Output::Json => config.json(),
    };
    // what was written must be a config; if it is not, nobody should find out by serving it. Variables that it keeps need
    // not be set here
    let written = Source::new("(imported)", text.clone());
    let mut errors = load(written.clone(), &|_| None).err().unwrap_or_default();
    errors.retain(|error| error.code != Code::Variable);
    if !errors.is_empty() {
        say(super::output::findings(&errors, Some(&written), super::output::Paint::stderr()).trim_end());
        say("error: not imported: the config that came of it does not load");
        return ExitCode::from(FAILED);
    }
    for (path, content) in &config.files {
        if let Err(error) = write_file(Path::new(path), content) {
            say(format_args!("error: {path} can't be written: {error}"));
            return ExitCode::from(FAILED);
        }
    }
    super::output::finish(&text, ExitCode::SUCCESS)
}

/// A service that is mapped to two addresses.
fn mapped_twice(map: &[Mapping]) -> Option<String> {
    let same = |one: &Mapping, other: &Mapping| {
        (&one.namespace, &one.service, one.port) == (&other.namespace, &other.service, other.port)
    };
    let (_, twice) = map.iter().enumerate().find(|(at, one)| map.iter().take(*at).any(|other| same(one, other)))?;
    let port = twice.port.map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}/{}{port}", twice.namespace, twice.service))
}

fn source(file: &str) -> Result<Source, String> {
    if file == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(LARGEST).read_to_end(&mut bytes);
        read.map_err(|error| format!("error: standard input can't be read: {error}"))?;
        return Source::from_bytes("<stdin>", bytes).map_err(|error| error.render(None));
    }
    Source::read(Path::new(file)).map_err(|error| error.render(None))
}

/// Files may hold private keys: nobody else can read them.
fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}
