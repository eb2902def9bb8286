//! Tests of fetches against a scripted server on a real socket, and of the schedule on a paused clock.

mod fetch;
mod idp;
mod negative_cache;
mod on_demand;
mod registry;
mod schedule;
mod server;
