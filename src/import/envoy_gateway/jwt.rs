//! `spec.jwt` of a `SecurityPolicy`.

use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::jwt::{JwtPolicy, Provider, TokenLocation, envoy_audience_spellings, split_claim_path, unique_name};
use crate::import::yaml_writer::Map;

/// Translates the `jwt` settings of a policy.
pub(super) fn translate(ctx: &ImportContext<'_>, field: FieldRef<'_>) -> JwtPolicy {
    let flag = |key: &str, target: &str| {
        field.get(key).is_some_and(|flag| {
            flag.exact(target);
            flag.boolean() == Some(true)
        })
    };
    let mode = match (flag("optional", "mode"), flag("failOpen", "mode")) {
        (_, true) => "permissive",
        (true, false) => "optional",
        (false, false) => "strict",
    };
    let mut policy = JwtPolicy {
        mode,
        providers: Vec::new(),
        forward: true,
        claims_to_headers: Vec::new(),
        payload_header: None,
        split_claims: vec!["scope".to_owned(), "scp".to_owned()],
        locations: None,
    };
    let mut names = Vec::new();
    for (index, provider_field) in field.list("providers").enumerate() {
        policy.providers.push(provider(ctx, provider_field, &mut names));
        let claims = claims(provider_field);
        match index {
            0 => policy.claims_to_headers = claims,
            _ if claims == policy.claims_to_headers => {}
            // one provider's header would be set from the tokens of another provider
            _ => provider_field
                .rejected("`claimToHeaders` differs between the providers, but applies to all of them in this gateway"),
        }
    }
    policy
}

fn provider(ctx: &ImportContext<'_>, field: FieldRef<'_>, names: &mut Vec<String>) -> Provider {
    let name = field.get_text("name").unwrap_or("provider");
    if let Some(name) = field.get("name") {
        name.exact("provider name");
    }
    let issuer = field.get("issuer").filter(|issuer| issuer.text().is_some_and(|text| !text.is_empty()));
    if let Some(issuer) = issuer {
        issuer.exact("provider issuer");
    }
    let audiences = envoy_audience_spellings(field.strings("audiences"));
    if let Some(list) = field.get("audiences") {
        list.exact("audiences, in all spellings that Envoy treats as equal");
    }
    let jwks = match (field.get("remoteJWKS"), field.get("localJWKS")) {
        (Some(remote), None) => remote_keys(ctx, remote),
        (None, Some(local)) => local_keys(ctx, local),
        _ => {
            field.rejected("a provider requires one of `remoteJWKS` and `localJWKS`");
            None
        }
    };
    if let Some(recompute) = field.get("recomputeRoute") {
        match recompute.text() {
            Some("false") => recompute.exact("routes are chosen once"),
            _ => recompute.rejected("routes are chosen before tokens are verified"),
        }
    }
    Provider {
        name: unique_name(names, name),
        issuer: issuer.and_then(FieldRef::text).map(str::to_owned),
        audiences,
        jwks,
        required_claims: Vec::new(),
        locations: Some(locations(field)),
        origin: field.origin(),
    }
}

fn locations(field: FieldRef<'_>) -> Vec<TokenLocation> {
    let Some(sources) = field.get("extractFrom") else { return TokenLocation::envoy_defaults() };
    let mut locations = Vec::new();
    for header in sources.list("headers") {
        header.reject_unknown_keys(&["name", "valuePrefix"]);
        if let Some(name) = header.get_text("name") {
            let prefix = header.get_text("valuePrefix").unwrap_or_default();
            locations.push(TokenLocation::Header(name.to_owned(), prefix.to_owned()));
            header.exact("locations header");
        }
    }
    for (key, location) in
        [("cookies", TokenLocation::Cookie as fn(String) -> TokenLocation), ("params", TokenLocation::Query)]
    {
        for item in sources.list(key) {
            if let Some(name) = item.text() {
                locations.push(location(name.to_owned()));
                item.exact(format!("locations {key}"));
            }
        }
    }
    if locations.is_empty() { TokenLocation::envoy_defaults() } else { locations }
}

fn claims(field: FieldRef<'_>) -> Vec<(Vec<String>, String)> {
    let mut mappings = Vec::new();
    for mapping in field.list("claimToHeaders") {
        mapping.reject_unknown_keys(&["header", "claim", "claimPath"]);
        let path: Vec<String> = match mapping.get_text("claim") {
            Some(claim) => split_claim_path(claim),
            None => mapping.strings("claimPath").into_iter().map(str::to_owned).collect(),
        };
        match mapping.get_text("header") {
            Some(header) if !path.is_empty() => {
                mapping.approximate(
                    "claimsToHeaders: identical for strings, numbers and booleans; Envoy encodes lists as base64",
                );
                mappings.push((path, header.to_owned()));
            }
            _ => mapping.rejected("`header` and a claim are required"),
        }
    }
    mappings
}

/// Translates `localJWKS`: a key set in the policy or in a ConfigMap.
fn local_keys(ctx: &ImportContext<'_>, field: FieldRef<'_>) -> Option<Map> {
    let (source, text) = match field.get_text("type").unwrap_or("Inline") {
        "Inline" => (field.get("inline")?, field.get_text("inline")?.to_owned()),
        _ => {
            let reference = field.get("valueRef")?;
            let (kind, name) = (reference.get_text("kind")?, reference.get_text("name")?);
            let namespace = &field.doc.namespace;
            let value = (kind == "ConfigMap")
                .then(|| {
                    ctx.data_value(kind, namespace, name, Some("jwks"))
                        .or_else(|| ctx.data_value(kind, namespace, name, None))
                })
                .flatten()
                .and_then(|value| String::from_utf8(value).ok());
            let Some(value) = value else {
                reference.rejected(format!("the {kind} {namespace}/{name} is not in the manifests"));
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
            source.rejected(format!("not a key set: {error}"));
            None
        }
    }
}

/// Translates `remoteJWKS`: a key set with a URL.
fn remote_keys(ctx: &ImportContext<'_>, field: FieldRef<'_>) -> Option<Map> {
    let uri = field.get("uri")?;
    let url = uri.text()?;
    uri.exact("jwks url");
    let cache = field.get("cacheDuration");
    if let Some(cache) = cache {
        cache.exact("jwks cacheDuration");
    }
    let mut timeout = "10s";
    let (mut attempts, mut base_interval, mut max_interval) = (None, None, None);
    let mut retry_on: Vec<&str> = Vec::new();
    if let Some(refetch) = field.get("failedRefetchDuration") {
        refetch.approximate("jwks retry.backoff.baseInterval");
        base_interval = refetch.text();
    }
    if let Some(settings) = field.get("backendSettings") {
        if let Some(request_timeout) = settings.get_path(&["timeout", "http", "requestTimeout"]) {
            request_timeout.exact("jwks timeout");
            timeout = request_timeout.text().unwrap_or(timeout);
        }
        if let Some(retry) = settings.get("retry") {
            if let Some(number) = retry.get("numRetries") {
                number.exact("jwks retry.attempts: attempts after the first");
                attempts = number.number::<u32>();
            }
            if let Some(backoff) = retry.get_path(&["perRetry", "backOff"]) {
                backoff.exact("jwks retry.backoff");
                base_interval = backoff.get_text("baseInterval").or(base_interval);
                max_interval = backoff.get_text("maxInterval");
            }
            if let Some(triggers) = retry.get_path(&["retryOn", "triggers"]) {
                for trigger in triggers.items() {
                    retry_on.extend(retry_trigger(trigger).filter(|word| !retry_on.contains(word)));
                }
            }
        }
        for (key, setting) in settings.entries().filter(|(key, _)| !matches!(*key, "retry" | "timeout")) {
            setting.dropped(format!("`{key}` tunes the fetching of keys and does not affect access"));
        }
    }
    let mut keys = Map::default()
        .with("url", url)
        .with("cacheDuration", cache.and_then(FieldRef::text).unwrap_or("300s"))
        .with("timeout", timeout)
        // Envoy Gateway uses the last fetched keys without a time limit
        .with("staleFor", "8760h");
    if attempts.is_some() || base_interval.is_some() || !retry_on.is_empty() {
        let backoff = Map::default().with_some("baseInterval", base_interval).with_some("maxInterval", max_interval);
        let retry = Map::default()
            .with("attempts", attempts.unwrap_or(2))
            .with_some("backoff", (!backoff.is_empty()).then_some(backoff))
            .with_some("on", (!retry_on.is_empty()).then_some(retry_on));
        keys.insert("retry", retry);
    }
    let references: Vec<_> = field.list("backendRefs").chain(field.get("backendRef")).collect();
    match references.as_slice() {
        [] => {}
        [reference] => {
            if let Some((host, target, port)) = super::super::gateway_api::backend_address(ctx, *reference) {
                if let Some(tls) = ctx.backend_tls(*reference, &target, port).filter(|_| url.starts_with("https://")) {
                    keys.insert("tls", tls);
                }
                keys.insert("connectTo", host);
            }
        }
        [_, second, ..] => second.rejected("only one reference is supported for keys"),
    }
    Some(keys)
}

/// Translates a retry trigger of Envoy into the nearest one of this gateway.
fn retry_trigger(field: FieldRef<'_>) -> Option<&'static str> {
    let (value, exact) = match field.text()? {
        "5xx" => ("5xx", true),
        "reset" => ("reset", true),
        "connect-failure" => ("connect-failure", true),
        "gateway-error" => ("5xx", false),
        "reset-before-request" => ("reset", false),
        other => {
            field.dropped(format!("{other} is not retried immediately, only with the next refresh"));
            return None;
        }
    };
    match exact {
        true => field.exact(format!("jwks retry.on {value}")),
        false => field.approximate(format!("jwks retry.on {value}, which includes more failures")),
    }
    Some(value)
}
