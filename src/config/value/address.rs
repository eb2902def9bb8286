//! Addresses: where the gateway listens, where backends are, and which peers are trusted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The address of an endpoint of the gateway, such as the admin page: `ip:port`, `[v6]:port`, `localhost:port`, `:port`, or `off`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum ListenAddress {
    /// Disabled.
    Off,
    /// This address; `:port` is the IPv6 wildcard, which also accepts IPv4.
    Socket(SocketAddr),
    /// This port of the loopback addresses.
    Localhost(u16),
}

impl ListenAddress {
    /// Returns the addresses to listen on; empty if disabled. A machine may lack one of the two addresses of `localhost`.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        match self {
            Self::Off => Vec::new(),
            Self::Socket(address) => vec![*address],
            Self::Localhost(port) => {
                vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()]
            }
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let parse_port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match text.rsplit_once(':') {
            Some(("", digits)) => parse_port(digits).map(|p| Self::Socket((Ipv6Addr::UNSPECIFIED, p).into())),
            Some(("localhost", digits)) => parse_port(digits).map(Self::Localhost),
            _ => None,
        }
        .ok_or_else(|| {
            format!(
                "not an address: `{text}`; an address is `ip:port`, `[v6]:port`, `localhost:port`, `:port`, or `off`"
            )
        })
    }
}

/// The IP address of a bind; an IPv6 address may be in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct BindAddress(pub IpAddr);

impl TryFrom<String> for BindAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let unbracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text);
        if unbracketed == "localhost" {
            return Ok(Self(Ipv4Addr::LOCALHOST.into()));
        }
        unbracketed
            .parse()
            .map(Self)
            .map_err(|_| format!("not an IP address: `{text}`; the address of a bind is an IP address without a port"))
    }
}

/// The `host` of a backend: its address, and whether it uses TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct BackendHost {
    /// The address to connect to.
    pub endpoint: BackendAddress,
    /// True for an `https://` URL.
    pub tls: bool,
}

/// The address of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BackendAddress {
    /// A host name and port.
    Name(String, u16),
    /// An IP address and port.
    Socket(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for BackendHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tls { "https://" } else { "" }, self.endpoint)
    }
}

impl TryFrom<String> for BackendHost {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for BackendHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a backend is `name:port`, `ip:port`, `[v6]:port`, `http://…`, `https://…`, or `unix:/path`";
        let invalid = || format!("not a backend: `{text}`; {FORM}");
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') && path.len() > 1 {
                true => Ok(Self { endpoint: BackendAddress::Unix(path.into()), tls: false }),
                false => Err(format!("the path of a Unix socket must be absolute: `{text}`")),
            };
        }
        let (authority, default_port, tls) = match text.split_once("://") {
            Some(("http", rest)) => (rest, Some(80), false),
            Some(("https", rest)) => (rest, Some(443), true),
            Some((scheme, _)) => return Err(format!("a backend uses http or https, not `{scheme}`")),
            None => (text, None, false),
        };
        let authority = match default_port {
            Some(_) => authority.strip_suffix('/').unwrap_or(authority),
            None => authority,
        };
        if authority.contains(['/', '?', '#']) {
            return Err(format!("a backend cannot have a path: `{text}`; `urlRewrite` changes paths"));
        }
        if authority.contains('@') {
            return Err("a backend cannot have a user and password; use `backendAuth`".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (v6, after) = rest.split_once(']').ok_or_else(invalid)?;
                v6.parse::<Ipv6Addr>().map_err(|_| invalid())?;
                (v6, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(invalid)?) })
            }
            None => match authority.split_once(':') {
                Some((_, rest)) if rest.contains(':') => {
                    return Err(format!("an IPv6 address needs brackets: `{text}`; write `[…]:port`"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse::<u16>()
                .ok()
                .filter(|p| *p != 0)
                .ok_or_else(|| format!("not a port: `{digits}` in `{text}`"))?,
            Some(_) => return Err(invalid()),
            None => default_port.ok_or_else(|| format!("a backend needs a port: `{text}`; write `{text}:80`"))?,
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self { endpoint: BackendAddress::Socket(SocketAddr::new(ip, port)), tls });
        }
        let name = host.to_ascii_lowercase();
        let label = |l: &str| {
            (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let without_dot = name.strip_suffix('.').unwrap_or(&name);
        if without_dot.len() > 253 || !without_dot.split('.').all(label) {
            return Err(invalid());
        }
        Ok(Self { endpoint: BackendAddress::Name(name, port), tls })
    }
}

/// A range of IP addresses in CIDR notation, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Cidr {
    network: IpAddr,
    prefix_length: u8,
}

impl Cidr {
    /// Returns whether the range contains `address`. An IPv4-mapped IPv6 address (`::ffff:…`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(32 - u32::from(self.prefix_length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(128 - u32::from(self.prefix_length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("not an address range: `{text}`; write it as `10.0.0.0/8` or `2001:db8::/32`");
        let (address, digits) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| invalid())?;
        let max_length = if network.is_ipv4() { 32 } else { 128 };
        let prefix_length = match digits {
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse::<u8>().ok().filter(|n| *n <= max_length).ok_or_else(invalid)?
            }
            Some(_) => return Err(invalid()),
            None => max_length,
        };
        let range = Self { network, prefix_length };
        let base = match network {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        if base != network {
            return Err(format!("the range has bits set beyond its length: `{text}`; write `{base}/{prefix_length}`"));
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_length)
    }
}
