//! `spec.jwt` of a `SecurityPolicy`.

use super::super::cluster::Cluster;
use super::super::jwt::{Jwt, Location, Provider, dotted, envoy_audiences, unique};
use super::super::manifest::Field;
use super::super::out::Map;

/// The policy's check of tokens.
pub(super) fn translate(cluster: &Cluster<'_>, field: Field<'_>) -> Jwt {
    let flag = |key: &str, target: &str| {
        field.get(key).is_some_and(|flag| {
            flag.exact(target);
            flag.truth() == Some(true)
        })
    };
    let mode = match (flag("optional", "mode"), flag("failOpen", "mode")) {
        (_, true) => "permissive",
        (true, false) => "optional",
        (false, false) => "strict",
    };
    let mut made = Jwt {
        mode,
        providers: Vec::new(),
        forward: true,
        claims: Vec::new(),
        payload_header: None,
        split: vec!["scope".to_owned(), "scp".to_owned()],
        locations: None,
    };
    let mut names = Vec::new();
    for (index, one) in field.list("providers").enumerate() {
        made.providers.push(provider(cluster, one, &mut names));
        let claims = claims(one);
        match index {
            0 => made.claims = claims,
            _ if claims == made.claims => {}
            // a header of one provider would be set from the tokens of another
            _ => one.refused("`claimToHeaders` differs between the providers; here it holds for all of them"),
        }
    }
    made
}

fn provider(cluster: &Cluster<'_>, field: Field<'_>, names: &mut Vec<String>) -> Provider {
    let name = field.text_of("name").unwrap_or("provider");
    if let Some(name) = field.get("name") {
        name.exact("provider name");
    }
    let issuer = field.get("issuer").filter(|issuer| issuer.text().is_some_and(|text| !text.is_empty()));
    if let Some(issuer) = issuer {
        issuer.exact("provider issuer");
    }
    let audiences = envoy_audiences(field.texts("audiences"));
    if let Some(list) = field.get("audiences") {
        list.exact("audiences, in all spellings that Envoy takes for them");
    }
    let jwks = match (field.get("remoteJWKS"), field.get("localJWKS")) {
        (Some(remote), None) => remote_keys(cluster, remote),
        (None, Some(local)) => local_keys(cluster, local),
        _ => {
            field.refused("a provider needs one of `remoteJWKS` and `localJWKS`");
            None
        }
    };
    if let Some(recompute) = field.get("recomputeRoute") {
        match recompute.text() {
            Some("false") => recompute.exact("routes are chosen once"),
            _ => recompute.refused("routes are chosen before tokens are judged here"),
        }
    }
    Provider {
        name: unique(names, name),
        issuer: issuer.and_then(Field::text).map(str::to_owned),
        audiences,
        jwks,
        required: Vec::new(),
        locations: Some(locations(field)),
        origin: field.origin(),
    }
}

fn locations(field: Field<'_>) -> Vec<Location> {
    let Some(from) = field.get("extractFrom") else { return Location::envoy_default() };
    let mut all = Vec::new();
    for header in from.list("headers") {
        header.only(&["name", "valuePrefix"]);
        if let Some(name) = header.text_of("name") {
            let prefix = header.text_of("valuePrefix").unwrap_or_default();
            all.push(Location::Header(name.to_owned(), prefix.to_owned()));
            header.exact("locations header");
        }
    }
    for (key, make) in [("cookies", Location::Cookie as fn(String) -> Location), ("params", Location::Query)] {
        for one in from.list(key) {
            if let Some(name) = one.text() {
                all.push(make(name.to_owned()));
                one.exact(format!("locations {key}"));
            }
        }
    }
    if all.is_empty() { Location::envoy_default() } else { all }
}

fn claims(field: Field<'_>) -> Vec<(Vec<String>, String)> {
    let mut all = Vec::new();
    for one in field.list("claimToHeaders") {
        one.only(&["header", "claim", "claimPath"]);
        let path: Vec<String> = match one.text_of("claim") {
            Some(claim) => dotted(claim),
            None => one.texts("claimPath").into_iter().map(str::to_owned).collect(),
        };
        match one.text_of("header") {
            Some(header) if !path.is_empty() => {
                one.approximate(
                    "claimsToHeaders: the same for strings, numbers and truth values; Envoy sends lists as base64",
                );
                all.push((path, header.to_owned()));
            }
            _ => one.refused("`header` and a claim are needed"),
        }
    }
    all
}

/// `localJWKS`: keys in the policy or in a ConfigMap.
fn local_keys(cluster: &Cluster<'_>, field: Field<'_>) -> Option<Map> {
    let (source, text) = match field.text_of("type").unwrap_or("Inline") {
        "Inline" => (field.get("inline")?, field.text_of("inline")?.to_owned()),
        _ => {
            let reference = field.get("valueRef")?;
            let (kind, name) = (reference.text_of("kind")?, reference.text_of("name")?);
            let namespace = &field.doc.namespace;
            let value = (kind == "ConfigMap")
                .then(|| {
                    cluster
                        .data(kind, namespace, name, Some("jwks"))
                        .or_else(|| cluster.data(kind, namespace, name, None))
                })
                .flatten()
                .and_then(|value| String::from_utf8(value).ok());
            let Some(value) = value else {
                reference.refused(format!("the {kind} {namespace}/{name} is not among the files"));
                return None;
            };
            (reference, value)
        }
    };
    if let Some(kind) = field.get("type") {
        kind.exact("jwks inline");
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(set) => {
            source.exact("jwks inline");
            Some(Map::default().with("inline", serde_json::Value::Object(set).to_string()))
        }
        Err(error) => {
            source.refused(format!("not a key set: {error}"));
            None
        }
    }
}

/// `remoteJWKS`: keys by URL.
fn remote_keys(cluster: &Cluster<'_>, field: Field<'_>) -> Option<Map> {
    let uri = field.get("uri")?;
    let url = uri.text()?;
    uri.exact("jwks url");
    let cache = field.get("cacheDuration");
    if let Some(cache) = cache {
        cache.exact("jwks cacheDuration");
    }
    let mut timeout = "10s";
    let (mut attempts, mut base, mut most) = (None, None, None);
    let mut on: Vec<&str> = Vec::new();
    if let Some(failed) = field.get("failedRefetchDuration") {
        failed.approximate("jwks retry.backoff.baseInterval");
        base = failed.text();
    }
    if let Some(settings) = field.get("backendSettings") {
        if let Some(one) = settings.at(&["timeout", "http", "requestTimeout"]) {
            one.exact("jwks timeout");
            timeout = one.text().unwrap_or(timeout);
        }
        if let Some(retry) = settings.get("retry") {
            if let Some(number) = retry.get("numRetries") {
                number.exact("jwks retry.attempts: tries after the first");
                attempts = number.number::<u32>();
            }
            if let Some(backoff) = retry.at(&["perRetry", "backOff"]) {
                backoff.exact("jwks retry.backoff");
                base = backoff.text_of("baseInterval").or(base);
                most = backoff.text_of("maxInterval");
            }
            if let Some(triggers) = retry.at(&["retryOn", "triggers"]) {
                for trigger in triggers.items() {
                    on.extend(retry_trigger(trigger).filter(|word| !on.contains(word)));
                }
            }
        }
        for (key, other) in settings.entries().filter(|(key, _)| !matches!(*key, "retry" | "timeout")) {
            other.dropped(format!("`{key}` tunes the fetch of keys, and does not decide about requests"));
        }
    }
    let mut made = Map::default()
        .with("url", url)
        .with("cacheDuration", cache.and_then(Field::text).unwrap_or("300s"))
        .with("timeout", timeout)
        // Envoy Gateway uses the last good keys without limit
        .with("staleFor", "8760h");
    if attempts.is_some() || base.is_some() || !on.is_empty() {
        let backoff = Map::default().with_some("baseInterval", base).with_some("maxInterval", most);
        let retry = Map::default()
            .with("attempts", attempts.unwrap_or(2))
            .with_some("backoff", (!backoff.is_empty()).then_some(backoff))
            .with_some("on", (!on.is_empty()).then_some(on));
        made.put("retry", retry);
    }
    let references: Vec<_> = field.list("backendRefs").chain(field.get("backendRef")).collect();
    match references.as_slice() {
        [] => {}
        [one] => {
            if let Some((host, target, port)) = super::super::gateway_api::address(cluster, *one) {
                if let Some(tls) = cluster.backend_tls(*one, &target, port).filter(|_| url.starts_with("https://")) {
                    made.put("tls", tls);
                }
                made.put("connectTo", host);
            }
        }
        [_, second, ..] => second.refused("keys come from one place here; write one reference"),
    }
    Some(made)
}

/// What is tried again here, of what Envoy tries again.
fn retry_trigger(field: Field<'_>) -> Option<&'static str> {
    let (word, exact) = match field.text()? {
        "5xx" => ("5xx", true),
        "reset" => ("reset", true),
        "connect-failure" => ("connect-failure", true),
        "gateway-error" => ("5xx", false),
        "reset-before-request" => ("reset", false),
        other => {
            field.dropped(format!("{other} is not tried again at once; the next refresh tries again"));
            return None;
        }
    };
    match exact {
        true => field.exact(format!("jwks retry.on {word}")),
        false => field.approximate(format!("jwks retry.on {word}, which is more")),
    }
    Some(word)
}
