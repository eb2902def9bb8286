//! Values that are opaque to the engine: regexes, addresses, and ranges of addresses.

use std::net::IpAddr;

use regex::Regex;

use crate::authz::cel::engine::common::types::Type;
use crate::authz::cel::engine::common::value::{StaticVal, Val};

pub(crate) static REGEX_TYPE: Type = Type::new_unspecified_type("regex");
pub(crate) static CIDR_TYPE: Type = Type::new_unspecified_type("net.CIDR");
pub(crate) static IP_TYPE: Type = Type::new_unspecified_type("net.IP");

/// A regex that was compiled when the config was loaded.
#[derive(Debug, Clone)]
pub(crate) struct RegexValue(pub(crate) Regex);

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CidrValue {
    address: IpAddr,
    prefix: u32,
}

/// An address. An IPv4-mapped IPv6 address is stored as the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpValue(pub(crate) IpAddr);

pub(crate) fn parse_ip(text: &str) -> Result<IpValue, String> {
    text.parse::<IpAddr>().map(|ip| IpValue(ip.to_canonical())).map_err(|_| "not an IP address".to_owned())
}

impl std::str::FromStr for CidrValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || "not a CIDR range, such as 10.0.0.0/8 or 2001:db8::/32".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let prefix: u32 = prefix.parse().map_err(|_| invalid())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err("the prefix is longer than an address".to_owned());
        }
        match address.to_canonical() {
            canonical if canonical.is_ipv4() != address.is_ipv4() && prefix >= 96 => {
                Ok(Self { address: canonical, prefix: prefix - 96 })
            }
            _ => Ok(Self { address, prefix }),
        }
    }
}

impl CidrValue {
    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Implements [`Val`] for a value that is opaque to the engine.
macro_rules! opaque {
    ($name:ident, $ty:ident, $equals:expr) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                &$ty
            }

            fn cel_type() -> &'static Type {
                &$ty
            }

            fn equals(&self, other: &dyn Val) -> bool {
                let equals: fn(&Self, &Self) -> bool = $equals;
                other.downcast_ref::<Self>().is_some_and(|other| equals(self, other))
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn std::any::Any> {
                Some(self)
            }
        }

        impl StaticVal for $name {}
    };
}

opaque!(RegexValue, REGEX_TYPE, |a, b| a.0.as_str() == b.0.as_str());
opaque!(CidrValue, CIDR_TYPE, |a, b| a == b);
opaque!(IpValue, IP_TYPE, |a, b| a == b);
