//! Portcullis: a reverse proxy that lets a request through only when its bearer token is good and its CEL rules agree.
//!
//! The way of a request, in the order of the modules that it meets:
//!
//! ```text
//! listen -> normalize -> route -> cors -> authenticate -> authorize -> rate limit -> edit -> forward -> edit -> reply
//!                                 `------ decision -----'                                          `-> access log
//! ```
//!
//! A config file becomes a [`config::Config`] (what was written), and [`mod@compile`] turns that into a
//! [`snapshot::Snapshot`] (what runs). A request sees one snapshot from start to end.

pub mod cli;
pub mod client;
pub mod gateway;
pub mod router;

pub mod admin;

pub mod compile;
pub mod config;
pub mod import;
pub mod snapshot;

pub mod listen;
pub mod proxy;

pub mod auth;
pub mod authz;
pub mod decision;
pub mod explain;
pub mod policy;
pub mod state;
pub mod upstream;

pub mod body;
pub mod docs;
pub mod drain;
pub mod hex;
pub mod reason;
pub mod request;
mod sync;
pub mod telemetry;
pub mod worker;
