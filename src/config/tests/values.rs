//! Values: what is accepted and as what.

use std::time::Duration as Std;

use proptest::prelude::*;

use super::super::value::{
    BackendAddress, BackendHost, BindAddress, Cidr, Duration, HostPattern, ListenAddress, Method, Regex, Size,
};

#[test]
fn durations_use_the_go_format() {
    for (text, millis) in [
        ("0", 0),
        ("0s", 0),
        ("300ms", 300),
        ("1.5s", 1500),
        (".5s", 500),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1h0m0.25s", 3_600_250),
        ("2000µs", 2),
        ("2000us", 2),
        ("3000000ns", 3),
    ] {
        assert_eq!(text.parse(), Ok(Duration(Std::from_millis(millis))), "{text}");
    }
    for text in
        ["", "5", "1.5", "-1s", "s", "1x", "1 s", "1s ", "1..5s", ".s", "1d", "99999999999999999999h", "1_0s", "٣s"]
    {
        assert!(text.parse::<Duration>().is_err(), "{text}");
    }
}

#[test]
fn zero_is_rejected_for_limits_that_would_reject_everything() {
    let errors_for = |limit: &str| {
        super::errors(&format!("config: {{limits: {{{limit}}}}}\nbinds: [{{port: 1, listeners: [{{}}]}}]"))
    };
    for limit in [
        "head: 0",
        "headers: 0",
        "token: 0",
        "headTimeout: 0s",
        "handshakeTimeout: 0",
        "idleTimeout: '0s'",
        "connections: 0",
        "http2Streams: 0",
        "jwksSize: 0",
        "jwksKeys: 0",
        "connectTimeout: 0ms",
    ] {
        let errors = errors_for(limit);
        assert_eq!(errors.len(), 1, "{limit}: {errors:?}");
        let key = limit.split(':').next().unwrap();
        assert!(errors[0].contains(&format!("config.limits.{key}: 0 would let nothing through")), "{errors:?}");
        assert!(errors[0].contains("write a large value"), "{errors:?}");
    }
    for limit in ["body: 0", "responseTimeout: 0s", "stallTimeout: 0", "streamTimeout: 0s", "connections: 1"] {
        assert_eq!(errors_for(limit), [""; 0], "{limit}");
    }
}

#[test]
fn sizes_have_binary_units() {
    for (text, bytes) in [("0", 0), ("17", 17), ("17B", 17), ("64KiB", 65_536), ("2MiB", 2 << 20), ("1GiB", 1 << 30)] {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }
    for text in ["", "KiB", "1kb", "1KB", "1M", "-1", "1.5MiB", "18446744073709551615KiB", "1 KiB"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

fn host(text: &str) -> Result<HostPattern, String> {
    HostPattern::try_from(text.to_owned())
}

#[test]
fn host_patterns_are_normalized() {
    let exact = |name: &str| Ok(HostPattern::Exact(name.to_owned()));
    assert_eq!(host("Example.COM."), exact("example.com"));
    assert_eq!(host("*.Example.com"), Ok(HostPattern::Suffix("example.com".to_owned())));
    assert_eq!(host("*"), Ok(HostPattern::Any));
    assert_eq!(host("127.0.0.1"), exact("127.0.0.1"));
    assert_eq!(host("[0:0::1]"), exact("[::1]"));
    for text in ["", ".", "*.", "a..b", "a:80", "http://a", "a/b", "*a.b", "a.*.b", "*.*.b", "a b", "ü.de", "a."] {
        assert_eq!(host(text).is_err(), text != "a.", "{text}");
    }
}

#[test]
fn backend_hosts_accept_every_format() {
    let name = |name: &str, port| BackendAddress::Name(name.to_owned(), port);
    let socket = |text: &str| BackendAddress::Socket(text.parse().unwrap());
    for (text, endpoint, tls) in [
        ("localhost:8080", name("localhost", 8080), false),
        ("API.example:1", name("api.example", 1), false),
        ("10.0.0.1:80", socket("10.0.0.1:80"), false),
        ("[::1]:80", socket("[::1]:80"), false),
        ("http://a", name("a", 80), false),
        ("https://a/", name("a", 443), true),
        ("https://[::1]", socket("[::1]:443"), true),
        ("https://a:8443", name("a", 8443), true),
        ("unix:/run/a.sock", BackendAddress::Unix("/run/a.sock".into()), false),
        ("unix:///run/a.sock", BackendAddress::Unix("/run/a.sock".into()), false),
    ] {
        assert_eq!(text.parse(), Ok(BackendHost { endpoint, tls }), "{text}");
    }
    for text in [
        "",
        "a",
        ":80",
        "a:",
        "a:0",
        "a:70000",
        "a:x",
        "::1:80",
        "[::1",
        "[a]:80",
        "http://a/b",
        "http://a?b",
        "ftp://a",
        "http://u:p@a",
        "a:80/",
        "unix:run",
        "unix:",
        "a b:1",
        "a:+1",
    ] {
        assert!(text.parse::<BackendHost>().is_err(), "{text}");
    }
}

#[test]
fn listen_addresses_can_be_off() {
    let address = |text: &str| ListenAddress::try_from(text.to_owned());
    assert_eq!(address("off"), Ok(ListenAddress::Off));
    assert_eq!(address("localhost:1").unwrap().sockets().len(), 2);
    assert_eq!(address(":1").unwrap().sockets(), ["[::]:1".parse().unwrap()]);
    assert_eq!(address("[::1]:1").unwrap().sockets(), ["[::1]:1".parse().unwrap()]);
    for text in ["", "1", "a:1", "127.0.0.1", "localhost", "localhost:x", ":+1", "Off"] {
        assert!(address(text).is_err(), "{text}");
    }
    for text in ["[::]", "::", "0.0.0.0", "localhost"] {
        assert!(BindAddress::try_from(text.to_owned()).is_ok(), "{text}");
    }
    assert!(BindAddress::try_from("127.0.0.1:80".to_owned()).is_err());
}

#[test]
fn cidr_contains_its_addresses() {
    for (range, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::1"),
        ("192.168.1.1", "192.168.1.1", "192.168.1.2"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("0.0.0.0/0", "1.2.3.4", "::"),
        ("::/0", "::1", "1.2.3.4"),
        ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
    ] {
        let range: Cidr = range.parse().unwrap();
        assert!(range.contains(inside.parse().unwrap()), "{range} {inside}");
        assert!(!range.contains(outside.parse().unwrap()), "{range} {outside}");
    }
    for text in ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/+8", "a/8", "::/129", "10/8"] {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
}

#[test]
fn regex_matches_whole_values() {
    let regex = |text: &str| Regex::try_from(text.to_owned());
    for (pattern, matching, other) in [
        ("a|ab", "ab", "abc"),
        ("a", "a", "a\n"),
        ("(?x) a b # comment", "ab", "a b"),
        ("^a$", "a", "ba"),
        ("", "", "a"),
        ("(?i)a", "A", "b"),
    ] {
        let regex = regex(pattern).unwrap();
        assert!(regex.is_match(matching), "{pattern} {matching}");
        assert!(!regex.is_match(other), "{pattern} {other}");
    }
    for text in ["(", "a)(b", "[", "a{99999}{99999}", "(?P<"] {
        assert!(regex(text).is_err(), "{text}");
    }
}

#[test]
fn methods_are_case_sensitive() {
    assert_eq!(Method::try_from("GET".to_owned()).map(|m| m.0), Ok(http::Method::GET));
    assert!(Method::try_from("PROPFIND".to_owned()).is_ok());
    assert!(Method::try_from("get".to_owned()).unwrap_err().contains("`GET`"));
    assert!(Method::try_from("G T".to_owned()).is_err());
}

proptest! {
    #[test]
    fn no_text_panics_in_a_value(text in "\\PC{0,24}|[0-9a-z.:/\\[\\]*%-]{0,24}") {
        let _ = text.parse::<Duration>();
        let _ = text.parse::<Size>();
        let _ = text.parse::<Cidr>();
        let _ = text.parse::<BackendHost>();
        let _ = host(&text);
        let _ = ListenAddress::try_from(text.clone());
        let _ = BindAddress::try_from(text.clone());
        let _ = Regex::try_from(text);
    }

    #[test]
    fn backend_host_round_trips(port in 1u16.., name in "[a-z]{1,9}(\\.[a-z]{1,5})?") {
        let backend: BackendHost = format!("{name}:{port}").parse().unwrap();
        prop_assert_eq!(backend.to_string().parse::<BackendHost>().unwrap(), backend);
    }

    #[test]
    fn cidr_contains_its_network(bits: u32, length in 0u8..=32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let network = std::net::Ipv4Addr::from_bits(bits & mask);
        let range: Cidr = format!("{network}/{length}").parse().unwrap();
        prop_assert!(range.contains(std::net::Ipv4Addr::from_bits(bits).into()));
        prop_assert!(range.contains(network.into()));
        if length > 0 {
            let outside = bits ^ (1 << (32 - u32::from(length)));
            prop_assert!(!range.contains(std::net::Ipv4Addr::from_bits(outside).into()));
        }
    }
}
