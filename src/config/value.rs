//! Validated values. Each is checked while it is read, so that its error has its position.

mod address;
mod host;
mod http_types;
mod quantity;

pub use address::{BackendAddress, BackendHost, BindAddress, Cidr, ListenAddress};
pub use host::{HostPattern, Regex};
pub use http_types::{HeaderName, HeaderValue, Method, Status};
pub use quantity::{Duration, Ratio, Size};
