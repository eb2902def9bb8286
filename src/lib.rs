//! Portcullis: a reverse proxy that forwards a request only if its bearer token is valid and its CEL rules allow it.
//!
//! # A request
//!
//! The stages, in the order in which a request passes through them ([`proxy`] runs them, one line each):
//!
//! ```text
//! listen -> request::normalize -> router -> cors -> auth -> authz -> policy -> upstream -> policy -> client
//!                                                  `- decision -'    edits     backend     edits
//!                                                                              `-> telemetry::access_log
//! ```
//!
//! The modules by concept:
//!
//! | concept | module |
//! |---|---|
//! | sockets, TLS, client certificates, HTTP/1.1 and HTTP/2 connections | [`listen`] |
//! | client timeouts: slow headers, idle connections, unread responses | [`client`] |
//! | path and header normalization, identity headers that clients must not set | [`request`] |
//! | route matching | [`router`] |
//! | JWTs, JWKS fetching and refresh, unknown `kid`s, basic auth, API keys | [`auth`] |
//! | CEL rules, CEL functions and variables | [`authz`] |
//! | CORS, rate limit, external authorization, header edits, redirects, mirroring | [`policy`] |
//! | retries, WebSocket, error responses | [`proxy`] |
//! | connection pool, DNS, active and passive health checks | [`upstream`] |
//! | access log, trace context, metrics, application log | [`telemetry`] |
//!
//! # A config
//!
//! ```text
//! file -> config::yaml -> config::env -> config::resolve (targets) -> Config
//!      -> config::effective (policy merging: the most specific level applies) -> compile -> Snapshot
//! ```
//!
//! A config file becomes a [`config::Config`] (typed, still as written), and [`mod@compile`] turns that into an
//! immutable [`snapshot::Snapshot`] (compiled). A request uses one snapshot from start to end. [`gateway`] starts the
//! workers, watches the files and reloads; [`compile`](mod@compile) carries state such as fetched keys over a reload.
//!
//! # Reference
//!
//! [`docs`] has the [architecture](docs::architecture), the guide for [contributing](docs::contributing), and the
//! generated reference pages: config keys, reason codes, findings, metrics, CEL and commands.

// The command line: one file per command. `config print`, `validate --online` (cli/probe.rs), `explain`, `import`.
pub mod cli;
pub mod docs;

// The running process: workers, sockets, config watcher, reload and config diff, admin pages, probes, drain.
pub mod admin;
pub mod drain;
pub mod gateway;
pub mod state;
pub mod worker;

// From config text to the compiled config: YAML, schema, lints, policy merging, compilation. `import` converts
// manifests of other gateways.
pub mod compile;
pub mod config;
pub mod import;
pub mod snapshot;

// Connections from clients, and the pipeline that handles each request.
pub mod client;
pub mod listen;
pub mod proxy;
pub mod router;

// The stages: authentication, authorization, other policies, backends. `explain` runs them without sending anything.
pub mod auth;
pub mod authz;
pub mod decision;
pub mod explain;
pub mod policy;
pub mod upstream;

// Shared by the stages: the request head, bodies, reason codes, logs and metrics.
pub mod body;
pub mod digest;
pub mod hex;
pub mod reason;
pub mod request;
mod sync;
pub mod telemetry;
