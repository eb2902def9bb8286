//! agentgateway on Kubernetes: for each kind of setting the most specific policy applies, and the rules of all levels
//! add up.

use super::cel_tokens::{map_request_fields, validate};
use super::context::ImportContext;
use super::field::FieldRef;
use super::groups::AGENTGATEWAY;
use super::jwt::{JwtPolicy, Provider, TokenLocation, unique_name};
use super::model::Model;
use super::targets::{Level, TargetRef, target_refs};
use super::yaml_writer::{Commented, Map, Value};

/// A translated policy.
struct TranslatedPolicy<'a> {
    object: FieldRef<'a>,
    target_refs: Vec<TargetRef>,
    jwt: Option<JwtPolicy>,
    rules: Vec<Commented>,
    cors: Map,
    closed: bool,
    /// One of the targets is not supported, so the policy could apply to anything.
    has_unknown_target: bool,
    /// The policy runs before the route is chosen.
    pre_routing: bool,
}

/// Applies the policies of the manifests to the listeners and routes of the model.
pub(super) fn apply(ctx: &ImportContext<'_>, model: &mut Model) {
    let kinds = ["AgentgatewayPolicy", "TrafficPolicy"];
    let objects = kinds.into_iter().flat_map(|kind| ctx.objects(AGENTGATEWAY, kind));
    let policies: Vec<TranslatedPolicy<'_>> = objects.map(|object| translate_policy(ctx, object)).collect();
    for listener in &mut model.listeners {
        let mut routes = std::mem::take(&mut listener.routes);
        for route in &mut routes {
            let level = |policy: &TranslatedPolicy<'_>| {
                policy.target_refs.iter().filter_map(|target| target.match_level(listener, Some(&route.id))).max()
            };
            let mut applicable: Vec<(Level, &TranslatedPolicy<'_>)> =
                policies.iter().filter_map(|policy| Some((level(policy)?, policy))).collect();
            applicable.sort_by_key(|(level, _)| *level);
            if let Some((first, second)) = conflicting_policies(&applicable) {
                second.object.rejected(format!(
                    "{} also authenticates the route {}, and the precedence of the two is undefined; keep one of them",
                    first.object.doc.label, route.name
                ));
                route.closed = true;
            }
            let mut rules = Vec::new();
            for (_, policy) in &applicable {
                route.closed |= policy.closed;
                rules.extend(policy.rules.iter().cloned());
                if let Some(jwt) = &policy.jwt {
                    route.jwt = Some((jwt.clone(), policy.object.doc.origin()));
                }
            }
            if let Some((_, policy)) = applicable.iter().rev().find(|(_, policy)| !policy.cors.is_empty())
                && !route.policies.contains_key("cors")
            {
                route.policies.extend(policy.cors.clone());
            }
            if !rules.is_empty() {
                let together = "the rules of all levels, which add up";
                let map = Map::default().with("rules", Value::List(rules));
                route.authorization = Some(Commented::new(together, map));
            }
        }
        listener.routes = routes;
        listener.closed |= policies.iter().any(|policy| policy.has_unknown_target);
    }
}

/// Finds two policies whose combined effect is unclear: they authenticate differently on the most specific level that
/// authenticates, or one of them runs before the route is chosen and removes the token that the other one needs.
fn conflicting_policies<'p, 'a>(
    holding: &[(Level, &'p TranslatedPolicy<'a>)],
) -> Option<(&'p TranslatedPolicy<'a>, &'p TranslatedPolicy<'a>)> {
    let mut checking = holding.iter().rev().filter(|(_, policy)| policy.jwt.is_some());
    let in_phase = |before| checking.clone().find(|(_, policy)| policy.pre_routing == before);
    if let (Some((_, first)), Some((_, second))) = (in_phase(true), in_phase(false)) {
        return Some((*first, *second));
    }
    let ((level, most_specific), (next_level, next)) = (checking.next()?, checking.next()?);
    let accept_same_tokens = |left: &TranslatedPolicy<'_>, right: &TranslatedPolicy<'_>| match (&left.jwt, &right.jwt) {
        (Some(left_jwt), Some(right_jwt)) => left_jwt.accepts_same_tokens(right_jwt) && left_jwt.mode == right_jwt.mode,
        _ => true,
    };
    (level == next_level && !accept_same_tokens(most_specific, next)).then_some((*next, *most_specific))
}

/// Records findings for agentgateway objects that no translation reads. Returns false if leaving the object out could
/// widen access.
pub(super) fn report_untranslated(root: FieldRef<'_>) -> bool {
    match &*root.doc.kind {
        "AgentgatewayPolicy" | "TrafficPolicy" | "AgentgatewayBackend" => true,
        "AgentgatewayParameters" => super::drop_object(root, "affects the proxy process, not requests"),
        _ => {
            root.rejected("this kind of object is not supported, and it could reject requests");
            false
        }
    }
}

fn translate_policy<'a>(ctx: &ImportContext<'a>, object: FieldRef<'a>) -> TranslatedPolicy<'a> {
    let mut translated = TranslatedPolicy {
        object,
        target_refs: Vec::new(),
        jwt: None,
        rules: Vec::new(),
        cors: Map::default(),
        closed: false,
        has_unknown_target: false,
        pre_routing: false,
    };
    let Some(spec) = object.get("spec") else { return translated };
    translated.target_refs = target_refs(ctx, spec);
    if let Some(traffic) = spec.get("traffic") {
        if let Some(phase) = traffic.get("phase") {
            match phase.text() {
                Some("PostRouting") => phase.exact("runs after the route is chosen"),
                Some("PreRouting") if translated.target_refs.iter().all(TargetRef::is_gateway) => {
                    phase.approximate("evaluated after the route is chosen, even if no route matches");
                    translated.pre_routing = true;
                }
                _ => phase.rejected("only a policy that targets a Gateway can run before the route is chosen"),
            }
        }
        translated.jwt = traffic.get("jwtAuthentication").map(|field| jwt_policy(ctx, field));
        if let Some(field) = traffic.get("authorization") {
            translated.rules = authorization_rules(field);
        }
        super::gateway_api::cors(traffic, &mut translated.cors);
    }
    for key in ["frontend", "backend"] {
        if let Some(field) = spec.get(key).filter(|_| key == "backend") {
            field.dropped("affects connections to backends; see `backends[].policies`");
        }
    }
    spec.reject_unhandled();
    translated.closed = object.has_rejected();
    translated.has_unknown_target = crate::import::targets::has_rejected_targets(spec);
    translated
}

fn jwt_policy(ctx: &ImportContext<'_>, field: FieldRef<'_>) -> JwtPolicy {
    let mode = field.get("mode");
    let mode_name = match mode.and_then(FieldRef::text) {
        None | Some("Strict") => "strict",
        Some("Optional") => "optional",
        Some("Permissive") => "permissive",
        Some(_) => {
            field.rejected("this `mode` is not supported");
            "strict"
        }
    };
    if let Some(mode) = mode {
        mode.exact("mode");
    }
    let mut names = Vec::new();
    let mut providers = Vec::new();
    for provider in field.list("providers") {
        let issuer = provider.get_text("issuer").unwrap_or_default();
        match provider.get("issuer") {
            Some(issuer) => {
                issuer.exact("provider issuer; this gateway also checks `nbf`, and accepts a token without `kid`")
            }
            None => provider.rejected("a provider requires an `issuer`"),
        }
        if let Some(list) = provider.get("audiences") {
            list.exact("provider audiences");
        }
        let jwks = provider.get("jwks");
        let keys = match (jwks.and_then(|keys| keys.get("inline")), jwks.and_then(|keys| keys.get("remote"))) {
            (Some(inline), None) => inline_keys(inline),
            (None, Some(remote)) => remote_keys(ctx, remote),
            _ => {
                provider.rejected("a provider requires one of `jwks.inline` and `jwks.remote`");
                None
            }
        };
        providers.push(Provider {
            name: unique_name(&mut names, issuer),
            issuer: Some(issuer.to_owned()).filter(|issuer| !issuer.is_empty()),
            audiences: provider.strings("audiences").into_iter().map(str::to_owned).collect(),
            jwks: keys,
            required_claims: vec!["exp".to_owned()],
            locations: None,
            origin: provider.origin(),
        });
    }
    let location = field.get("location").and_then(token_location);
    JwtPolicy {
        mode: mode_name,
        providers,
        forward: false,
        claims_to_headers: Vec::new(),
        payload_header: None,
        split_claims: Vec::new(),
        locations: Some(vec![
            location.unwrap_or_else(|| TokenLocation::Header("authorization".into(), "Bearer ".into())),
        ]),
    }
}

fn token_location(field: FieldRef<'_>) -> Option<TokenLocation> {
    let (key, location_field) = field.entries().next()?;
    let name = location_field.get_text("name");
    let location = match (key, name) {
        ("header", Some(name)) => {
            location_field.reject_unknown_keys(&["name", "prefix"]);
            let default = if name.eq_ignore_ascii_case("authorization") { "Bearer " } else { "" };
            TokenLocation::Header(name.to_owned(), location_field.get_text("prefix").unwrap_or(default).to_owned())
        }
        ("queryParameter", Some(name)) => TokenLocation::Query(name.to_owned()),
        ("cookie", Some(name)) => TokenLocation::Cookie(name.to_owned()),
        _ => {
            field.rejected("a location that is an expression is not supported");
            return None;
        }
    };
    location_field.exact(format!("locations {key}"));
    Some(location)
}

fn inline_keys(field: FieldRef<'_>) -> Option<Map> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(field.text().unwrap_or_default()) {
        Ok(set) => {
            field.exact("jwks inline");
            Some(Map::default().with("inline", serde_json::Value::Object(set).to_string()))
        }
        Err(error) => {
            field.rejected(format!("not a key set: {error}"));
            None
        }
    }
}

fn remote_keys(ctx: &ImportContext<'_>, field: FieldRef<'_>) -> Option<Map> {
    let cache = field.get("cacheDuration");
    if let Some(cache) = cache {
        cache.exact("jwks cacheDuration");
    }
    let jwks_for = |url: &str| {
        Map::default()
            .with("url", url)
            .with("cacheDuration", cache.and_then(FieldRef::text).unwrap_or("5m"))
            .with("timeout", "10s")
            .with("staleFor", "8760h")
    };
    if let Some((url, text)) = field.get("url").and_then(|url| Some((url, url.text()?))) {
        url.exact("jwks url");
        return Some(jwks_for(text));
    }
    let (Some(reference), Some(path)) = (field.get("backendRef"), field.get("jwksPath")) else {
        field.rejected("either `url`, or `backendRef` with `jwksPath`, is required");
        return None;
    };
    match path.text() {
        Some(text) if text.starts_with("${") => {
            path.approximate("the path of the URL, after a slash: the value of the variable must not start with one")
        }
        _ => path.exact("the path of the URL"),
    }
    let Some((host, target, port)) = super::gateway_api::backend_address(ctx, reference) else {
        // without keys, the provider would use discovery at its issuer
        field.rejected("the location of the keys is unknown");
        return None;
    };
    let tls = ctx.backend_tls(reference, &target, port);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let name = format!("{}.{}.svc.cluster.local:{port}", target.name, target.namespace);
    let url = format!("{scheme}://{name}/{}", path.text().unwrap_or_default().trim_start_matches('/'));
    let connect = (host != name).then_some(host);
    Some(jwks_for(&url).with_some("connectTo", connect).with_some("tls", tls))
}

/// Translates each expression into one rule, as the controller does and contrary to the description in the CRD.
fn authorization_rules(field: FieldRef<'_>) -> Vec<Commented> {
    let action = field.get("action");
    let kind = match action.and_then(FieldRef::text) {
        None | Some("Allow") => "allow",
        Some("Deny") => "deny",
        Some("Require") => "require",
        Some(_) => {
            field.rejected("this `action` is not supported");
            "deny"
        }
    };
    if let Some(action) = action {
        action.exact(format!("{kind} rules"));
    }
    let Some(list) = field.get_path(&["policy", "matchExpressions"]) else { return Vec::new() };
    let expressions: Vec<_> = list.items().collect();
    let any_of_several = kind == "allow" && expressions.len() > 1;
    let mut rules = Vec::new();
    for (index, expression) in expressions.iter().enumerate() {
        // `request.host` of agentgateway is the authority as it was sent
        let map_field = |name: &str| Some(format!("request.{}", if name == "host" { "authority" } else { name }));
        let text = map_request_fields(expression.text().unwrap_or_default().trim(), map_field);
        let checked = text.as_ref().map_or_else(
            || Err("use `request` only to select a field, such as `request.path`, and remove comments".to_owned()),
            |text| validate(text),
        );
        match checked {
            Ok(()) if kind == "deny" => {
                expression.narrower("here, a deny rule that fails to evaluate rejects the request")
            }
            Ok(()) if any_of_several => expression.approximate("one matching rule is enough, as in the controller"),
            Ok(()) => expression.exact(format!("{kind} rule")),
            Err(why) => expression.rejected(why),
        }
        let name = match expressions.len() {
            1 => field.doc.name.clone(),
            _ => format!("{}[{index}]", field.doc.name),
        };
        let rule = Map::default()
            .with("name", format!("{}/{name}", field.doc.namespace))
            .with(kind, text.unwrap_or_else(|| "false".to_owned()));
        rules.push(Commented::new(format!("from {}", expression.origin()), rule));
    }
    rules
}
