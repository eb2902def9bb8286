//! `RequestAuthentication`: a token may be absent, but a token that is present must be valid. All objects that select a
//! workload are combined.

use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::jwt::{JwtPolicy, Provider, TokenLocation, envoy_audience_spellings, split_claim_path, unique_name};
use crate::import::yaml_writer::Map;

/// Combines the rules of the objects into one `jwtAuth` with its origin. Returns `None` if there are no rules.
pub(super) fn translate(ctx: &ImportContext<'_>, objects: &[FieldRef<'_>]) -> Option<(JwtPolicy, String)> {
    let mut rules: Vec<FieldRef<'_>> = Vec::new();
    for object in objects {
        let Some(spec) = object.get("spec") else { continue };
        rules.extend(spec.list("jwtRules"));
        if let Some(empty) = spec.get("jwtRules").filter(|list| list.items().next().is_none()) {
            empty.exact("no rules: tokens are not authenticated");
        }
    }
    // the order in which Istio applies them
    rules.sort_by_key(|rule| rule.get_text("issuer").unwrap_or_default());
    let mut policy = JwtPolicy {
        mode: "optional",
        providers: Vec::new(),
        forward: false,
        claims_to_headers: Vec::new(),
        payload_header: None,
        split_claims: vec!["scope".to_owned(), "permission".to_owned()],
        locations: None,
    };
    let mut names = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        policy.providers.push(rule_provider(ctx, *rule, &mut names));
        let forward = rule.get("forwardOriginalToken").is_some_and(|flag| {
            flag.exact("forward");
            flag.boolean() == Some(true)
        });
        let payload = rule.get("outputPayloadToHeader").and_then(|header| {
            header.exact("payloadHeader");
            header.text().map(str::to_owned)
        });
        let claims = claims_to_headers(*rule);
        for claim in rule.list("spaceDelimitedClaims") {
            if let Some(text) = claim.text() {
                claim.exact("splitClaims");
                policy.split_claims.push(text.to_owned());
            }
        }
        match index {
            0 => (policy.forward, policy.payload_header, policy.claims_to_headers) = (forward, payload, claims),
            _ if (policy.forward, &policy.payload_header, &policy.claims_to_headers)
                == (forward, &payload, &claims) => {}
            _ => rule.rejected(
                "`forwardOriginalToken`, `outputPayloadToHeader` and `outputClaimToHeaders` differ between the rules; \
                 here they hold for all issuers",
            ),
        }
    }
    for object in objects {
        if let Some(spec) = object.get("spec") {
            spec.reject_unhandled();
        }
    }
    policy.split_claims.dedup();
    let origins: Vec<String> = objects.iter().map(|object| object.doc.origin()).collect();
    (!policy.providers.is_empty()).then(|| (policy, origins.join(", ")))
}

fn rule_provider(ctx: &ImportContext<'_>, rule: FieldRef<'_>, names: &mut Vec<String>) -> Provider {
    let issuer = rule.get_text("issuer").unwrap_or_default();
    match rule.get("issuer") {
        Some(field) => field.exact("provider issuer; this gateway rejects `exp: 0` and an `iat` in the future"),
        None => rule.rejected("a rule requires an `issuer`"),
    }
    if let Some(audiences) = rule.get("audiences") {
        audiences.exact("audiences, in all spellings that Envoy treats as equal");
    }
    Provider {
        name: unique_name(names, issuer),
        issuer: Some(issuer.to_owned()).filter(|issuer| !issuer.is_empty()),
        audiences: envoy_audience_spellings(rule.strings("audiences")),
        jwks: rule_keys(ctx, rule, issuer),
        required_claims: Vec::new(),
        locations: Some(token_locations(rule)),
        origin: rule.origin(),
    }
}

fn rule_keys(ctx: &ImportContext<'_>, rule: FieldRef<'_>, issuer: &str) -> Option<Map> {
    // `jwks_uri` is an old spelling that Istio still accepts
    let uri = rule.get("jwksUri").or_else(|| rule.get("jwks_uri"));
    let timeout = rule.get("timeout");
    if let Some(timeout) = timeout {
        timeout.exact("jwks timeout");
    }
    match (uri, rule.get("jwks")) {
        (_, Some(inline)) => {
            let Some(text) = inline.text() else {
                inline.rejected("expected a key set as a string");
                return None;
            };
            if let Some(uri) = uri {
                uri.dropped("`jwks` takes precedence");
            }
            match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
                Ok(set) => {
                    inline.exact("jwks inline");
                    Some(Map::default().with("inline", serde_json::Value::Object(set).to_string()))
                }
                Err(error) => {
                    inline.rejected(format!("not a key set: {error}"));
                    None
                }
            }
        }
        (Some(uri), None) => {
            uri.approximate("jwks url, fetched by this gateway instead of istiod");
            let url = uri.text().unwrap_or_default();
            let mut keys = Map::default()
                .with("url", url)
                .with("cacheDuration", "20m")
                .with("timeout", timeout.and_then(FieldRef::text).unwrap_or("5s"))
                .with("staleFor", "168h");
            if let Some(host) = mapped_key_server(ctx, url) {
                keys.insert("connectTo", host);
            }
            Some(keys)
        }
        (None, None) => {
            if !issuer.starts_with("https://") && !issuer.starts_with("http://") {
                rule.rejected("there are no keys, and the issuer is not a URL for discovery");
            }
            None
        }
    }
}

/// Returns the mapped address of a key server whose URL names a service inside the cluster.
fn mapped_key_server(ctx: &ImportContext<'_>, url: &str) -> Option<String> {
    let url: http::Uri = url.parse().ok()?;
    let mut labels = url.host()?.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let mapped = |m: &&super::super::ServiceMapping| {
        m.service == name && m.namespace == namespace && m.port.is_none_or(|only| only == port)
    };
    matches!(labels.next(), None | Some("svc"))
        .then(|| ctx.options.map.iter().find(mapped))
        .flatten()
        .map(|m| m.host.clone())
}

fn token_locations(rule: FieldRef<'_>) -> Vec<TokenLocation> {
    let mut locations = Vec::new();
    for header in rule.list("fromHeaders") {
        header.reject_unknown_keys(&["name", "prefix"]);
        if let Some(name) = header.get_text("name") {
            locations
                .push(TokenLocation::Header(name.to_owned(), header.get_text("prefix").unwrap_or_default().to_owned()));
            header.exact("locations header");
        }
    }
    for (key, location) in
        [("fromCookies", TokenLocation::Cookie as fn(String) -> TokenLocation), ("fromParams", TokenLocation::Query)]
    {
        for item in rule.list(key) {
            if let Some(name) = item.text() {
                locations.push(location(name.to_owned()));
                item.exact(format!("locations, {key}"));
            }
        }
    }
    if locations.is_empty() { TokenLocation::envoy_defaults() } else { locations }
}

fn claims_to_headers(rule: FieldRef<'_>) -> Vec<(Vec<String>, String)> {
    let mut mappings = Vec::new();
    for mapping in rule.list("outputClaimToHeaders") {
        mapping.reject_unknown_keys(&["header", "claim"]);
        match (mapping.get_text("header"), mapping.get_text("claim")) {
            (Some(header), Some(claim)) => {
                mapping.approximate(
                    "claimsToHeaders: identical for strings, numbers and booleans; Istio encodes lists as base64",
                );
                mappings.push((split_claim_path(claim), header.to_owned()));
            }
            _ => mapping.rejected("`header` and `claim` are required"),
        }
    }
    mappings
}
