//! Fetching against a scripted server on a real socket, and the schedule on a paused clock.

mod fetching;
mod scheduling;
mod server;
mod unknown;
