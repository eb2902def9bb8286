//! Fetching against a scripted server on a real socket, and the schedule on a paused clock.

mod asking;
mod fetching;
mod idp;
mod scheduling;
mod server;
mod sources;
mod unknown;
