//! `portcullis import`: converts manifests of another gateway into a config, and reports the outcome of each field.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{BAD_CONFIG, FAILED, eprint_line};
use crate::config::{DiagnosticCode, Source, load};
use crate::import::{Dialect, FieldOutcome, ImportOptions, ServiceMapping, import_manifests};

/// The limit on standard input in bytes.
const MAX_STDIN: u64 = 5 << 20;

/// The manifests to import, and the options.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The gateway that the manifests are written for.
    #[arg(value_enum)]
    from: SourceGateway,
    /// Files with Kubernetes manifests, each with any number of documents; `-` reads standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The address of a service; can be repeated.
    #[arg(long, value_name = "NAMESPACE/SERVICE=HOST:PORT")]
    map: Vec<ServiceMapping>,
    /// The output format; `text` is YAML.
    #[arg(long, value_enum, default_value = "yaml", value_name = "FORMAT")]
    output: ConfigFormat,
    /// The directory for certificates from the manifests. The config refers to them as files.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<String>,
    /// A proxy in front of the gateway that is trusted to report the client's address; can be repeated.
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<String>,
    /// Import the rest if a part cannot be imported, and deny all requests to that part.
    #[arg(long)]
    allow_partial: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SourceGateway {
    /// RequestAuthentication, AuthorizationPolicy, Gateway, VirtualService, and the Gateway API.
    Istio,
    /// SecurityPolicy on the Gateway API.
    EnvoyGateway,
    /// AgentgatewayPolicy on the Gateway API.
    Agentgateway,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ConfigFormat {
    /// YAML with comments that name the source of each part.
    #[value(alias = "text")]
    Yaml,
    /// JSON without comments.
    Json,
}

pub(super) fn main(args: &ImportArgs) -> ExitCode {
    let mut sources = Vec::new();
    if args.files.iter().filter(|file| *file == "-").count() > 1 {
        eprint_line("error: `-` is given twice, but standard input can be read only once");
        return ExitCode::from(BAD_CONFIG);
    }
    if let Some(duplicate) = duplicate_mapping(&args.map) {
        eprint_line(format_args!("error: `--map` has two addresses for {duplicate}"));
        return ExitCode::from(BAD_CONFIG);
    }
    for file in &args.files {
        match read_source(file) {
            Ok(source) => sources.push(source),
            Err(text) => {
                eprint_line(text.trim_end());
                return ExitCode::from(BAD_CONFIG);
            }
        }
    }
    let dialect = match args.from {
        SourceGateway::Istio => Dialect::Istio,
        SourceGateway::EnvoyGateway => Dialect::EnvoyGateway,
        SourceGateway::Agentgateway => Dialect::Agentgateway,
    };
    let options = ImportOptions {
        map: args.map.clone(),
        allow_partial: args.allow_partial,
        out_dir: args.out_dir.clone(),
        trusted_proxies: args.trusted_proxy.clone(),
    };
    let imported = match import_manifests(dialect, &sources, &options) {
        Ok(imported) => imported,
        Err(errors) => {
            for error in errors {
                let source = sources.iter().find(|source| *source.name() == error.span.file);
                eprint_line(error.render(source).trim_end());
            }
            return ExitCode::from(BAD_CONFIG);
        }
    };
    for finding in &imported.findings {
        eprint_line(finding);
    }
    let rejected = imported.findings.iter().filter(|finding| finding.outcome == FieldOutcome::Rejected).count();
    let Some(config) = imported.config else {
        eprint_line(match rejected {
            0 => "error: the manifests contain nothing to serve".to_owned(),
            number => format!(
                "error: not imported: {number} refused above; `--allow-partial` imports the rest and denies all \
                 requests to the refused parts"
            ),
        });
        return ExitCode::from(FAILED);
    };
    let text = match args.output {
        ConfigFormat::Yaml => config.to_yaml(),
        ConfigFormat::Json => config.to_json(),
    };
    // the result must load, so that a defect does not surface only when it is served; its variables need not be set
    // here
    let generated = Source::new("(imported)", text.clone());
    let mut errors = load(generated.clone(), &|_| None).err().unwrap_or_default();
    errors.retain(|error| error.code != DiagnosticCode::UnsetVariable);
    if !errors.is_empty() {
        eprint_line(
            super::output::render_findings(&errors, Some(&generated), super::output::Style::stderr()).trim_end(),
        );
        eprint_line("error: not imported: the resulting config does not load");
        return ExitCode::from(FAILED);
    }
    for (path, content) in &config.files {
        if let Err(error) = write_file(Path::new(path), content) {
            eprint_line(format_args!("error: cannot write {path}: {error}"));
            return ExitCode::from(FAILED);
        }
    }
    super::output::print_result(&text, ExitCode::SUCCESS)
}

/// Returns a service that is mapped to two addresses.
fn duplicate_mapping(map: &[ServiceMapping]) -> Option<String> {
    let same_service = |left: &ServiceMapping, right: &ServiceMapping| {
        (&left.namespace, &left.service, left.port) == (&right.namespace, &right.service, right.port)
    };
    let (_, duplicate) =
        map.iter().enumerate().find(|(at, mapping)| map.iter().take(*at).any(|other| same_service(mapping, other)))?;
    let port = duplicate.port.map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}/{}{port}", duplicate.namespace, duplicate.service))
}

fn read_source(file: &str) -> Result<Source, String> {
    if file == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(MAX_STDIN).read_to_end(&mut bytes);
        read.map_err(|error| format!("error: cannot read standard input: {error}"))?;
        return Source::from_bytes("<stdin>", bytes).map_err(|error| error.render(None));
    }
    Source::read(Path::new(file)).map_err(|error| error.render(None))
}

/// Writes a file that only its owner can read, since it may contain a private key.
fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(directory) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}
