//! `RequestAuthentication`: a token may be missing, and must be good when it is there. All that select a workload are
//! taken together.

use super::super::cluster::Cluster;
use super::super::jwt::{Jwt, Location, Provider, dotted, envoy_audiences, unique};
use super::super::manifest::Field;
use super::super::out::Map;

/// The check of tokens that these make together; none when there are no rules.
pub(super) fn translate(cluster: &Cluster<'_>, objects: &[Field<'_>]) -> Option<(Jwt, String)> {
    let mut rules: Vec<Field<'_>> = Vec::new();
    for object in objects {
        let Some(spec) = object.get("spec") else { continue };
        rules.extend(spec.list("jwtRules"));
        if let Some(empty) = spec.get("jwtRules").filter(|list| list.items().next().is_none()) {
            empty.exact("no rules: tokens are not looked at");
        }
    }
    // Istio's order
    rules.sort_by_key(|rule| rule.text_of("issuer").unwrap_or_default());
    let mut made = Jwt {
        mode: "optional",
        providers: Vec::new(),
        forward: false,
        claims: Vec::new(),
        payload_header: None,
        split: vec!["scope".to_owned(), "permission".to_owned()],
        locations: None,
    };
    let mut names = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        made.providers.push(provider(cluster, *rule, &mut names));
        let forward = rule.get("forwardOriginalToken").is_some_and(|flag| {
            flag.exact("forward");
            flag.truth() == Some(true)
        });
        let payload = rule.get("outputPayloadToHeader").and_then(|header| {
            header.exact("payloadHeader");
            header.text().map(str::to_owned)
        });
        let claims = claims(*rule);
        for word in rule.list("spaceDelimitedClaims") {
            if let Some(text) = word.text() {
                word.exact("splitClaims");
                made.split.push(text.to_owned());
            }
        }
        match index {
            0 => (made.forward, made.payload_header, made.claims) = (forward, payload, claims),
            _ if (made.forward, &made.payload_header, &made.claims) == (forward, &payload, &claims) => {}
            _ => rule.refused(
                "`forwardOriginalToken`, `outputPayloadToHeader` and `outputClaimToHeaders` differ between the rules; \
                 here they hold for all issuers",
            ),
        }
    }
    for object in objects {
        if let Some(spec) = object.get("spec") {
            cluster.report.sweep(spec);
        }
    }
    made.split.dedup();
    let origins: Vec<String> = objects.iter().map(|object| object.doc.origin()).collect();
    (!made.providers.is_empty()).then(|| (made, origins.join(", ")))
}

fn provider(cluster: &Cluster<'_>, rule: Field<'_>, names: &mut Vec<String>) -> Provider {
    let issuer = rule.text_of("issuer").unwrap_or_default();
    match rule.get("issuer") {
        Some(field) => field.exact("provider issuer; `exp: 0` and an `iat` in the future are refused here"),
        None => rule.refused("a rule needs an `issuer`"),
    }
    if let Some(audiences) = rule.get("audiences") {
        audiences.exact("audiences, in all spellings that Envoy takes for them");
    }
    Provider {
        name: unique(names, issuer),
        issuer: Some(issuer.to_owned()).filter(|issuer| !issuer.is_empty()),
        audiences: envoy_audiences(rule.texts("audiences")),
        jwks: keys(cluster, rule, issuer),
        required: Vec::new(),
        locations: Some(locations(rule)),
        origin: rule.origin(),
    }
}

fn keys(cluster: &Cluster<'_>, rule: Field<'_>, issuer: &str) -> Option<Map> {
    // `jwks_uri` is an old spelling that Istio still reads
    let uri = rule.get("jwksUri").or_else(|| rule.get("jwks_uri"));
    let timeout = rule.get("timeout");
    if let Some(timeout) = timeout {
        timeout.exact("jwks timeout");
    }
    match (uri, rule.get("jwks")) {
        (_, Some(inline)) => {
            let Some(text) = inline.text() else {
                inline.refused("expected a key set as text");
                return None;
            };
            if let Some(uri) = uri {
                uri.dropped("`jwks` holds the keys");
            }
            match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
                Ok(set) => {
                    inline.exact("jwks inline");
                    Some(Map::default().with("inline", serde_json::Value::Object(set).to_string()))
                }
                Err(error) => {
                    inline.refused(format!("not a key set: {error}"));
                    None
                }
            }
        }
        (Some(uri), None) => {
            uri.approximate("jwks url, fetched by this gateway and not by istiod");
            let url = uri.text().unwrap_or_default();
            let mut made = Map::default()
                .with("url", url)
                .with("cacheDuration", "20m")
                .with("timeout", timeout.and_then(Field::text).unwrap_or("5s"))
                .with("staleFor", "168h");
            if let Some(host) = inside_cluster(cluster, url) {
                made.put("connectTo", host);
            }
            Some(made)
        }
        (None, None) => {
            if !issuer.starts_with("https://") && !issuer.starts_with("http://") {
                rule.refused("there are no keys, and the issuer is no URL to find them at");
            }
            None
        }
    }
}

/// The mapped address of a service that a URL names by its name inside the cluster.
fn inside_cluster(cluster: &Cluster<'_>, url: &str) -> Option<String> {
    let url: http::Uri = url.parse().ok()?;
    let mut labels = url.host()?.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let mapped = |m: &&super::super::Mapping| {
        m.service == name && m.namespace == namespace && m.port.is_none_or(|only| only == port)
    };
    matches!(labels.next(), None | Some("svc"))
        .then(|| cluster.options.map.iter().find(mapped))
        .flatten()
        .map(|m| m.host.clone())
}

fn locations(rule: Field<'_>) -> Vec<Location> {
    let mut all = Vec::new();
    for header in rule.list("fromHeaders") {
        header.only(&["name", "prefix"]);
        if let Some(name) = header.text_of("name") {
            all.push(Location::Header(name.to_owned(), header.text_of("prefix").unwrap_or_default().to_owned()));
            header.exact("locations header");
        }
    }
    for (key, make) in [("fromCookies", Location::Cookie as fn(String) -> Location), ("fromParams", Location::Query)] {
        for one in rule.list(key) {
            if let Some(name) = one.text() {
                all.push(make(name.to_owned()));
                one.exact(format!("locations, {key}"));
            }
        }
    }
    if all.is_empty() { Location::envoy_default() } else { all }
}

fn claims(rule: Field<'_>) -> Vec<(Vec<String>, String)> {
    let mut all = Vec::new();
    for one in rule.list("outputClaimToHeaders") {
        one.only(&["header", "claim"]);
        match (one.text_of("header"), one.text_of("claim")) {
            (Some(header), Some(claim)) => {
                one.approximate(
                    "claimsToHeaders: the same for strings, numbers and truth values; Istio sends lists as base64",
                );
                all.push((dotted(claim), header.to_owned()));
            }
            _ => one.refused("`header` and `claim` are needed"),
        }
    }
    all
}
