//! agentgateway on Kubernetes: settings of one kind come from the most specific policy, and rules of all levels are
//! taken together.

use super::cel_tokens::{map_request_fields, validate};
use super::context::ImportContext;
use super::field::FieldRef;
use super::groups::AGENTGATEWAY;
use super::jwt::{JwtPolicy, Provider, TokenLocation, unique_name};
use super::model::Model;
use super::targets::{Level, TargetRef, target_refs};
use super::yaml_writer::{Commented, Map, Value};

/// A policy, translated.
struct TranslatedPolicy<'a> {
    object: FieldRef<'a>,
    target_refs: Vec<TargetRef>,
    jwt: Option<JwtPolicy>,
    rules: Vec<Commented>,
    cors: Map,
    closed: bool,
    /// What it is for is not understood, so it could be for anything.
    has_unknown_target: bool,
    /// It comes before the choice of a route.
    pre_routing: bool,
}

/// Puts the policies of the files where they hold.
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
                    "{} checks tokens for the route {} too: which of the two holds is not settled",
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
                let together = "the rules of all levels, which count together";
                let map = Map::default().with("rules", Value::List(rules));
                route.authorization = Some(Commented::new(together, map));
            }
        }
        listener.routes = routes;
        listener.closed |= policies.iter().any(|policy| policy.has_unknown_target);
    }
}

/// Two policies of which it is not clear what they make together: they check tokens differently on the most specific
/// level that has any, or one of them before the choice of the route and one after it, which then finds no token.
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

/// What an object of agentgateway's means that no translation reads; false when leaving it out could let somebody in.
pub(super) fn report_untranslated(root: FieldRef<'_>) -> bool {
    match &*root.doc.kind {
        "AgentgatewayPolicy" | "TrafficPolicy" | "AgentgatewayBackend" => true,
        "AgentgatewayParameters" => super::drop_object(root, "about the proxy, not about requests"),
        _ => {
            root.rejected("this kind of object is not understood, and it could refuse requests");
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
                Some("PostRouting") => phase.exact("after the route was chosen"),
                Some("PreRouting") if translated.target_refs.iter().all(TargetRef::is_gateway) => {
                    phase.approximate("looked at when the route was chosen, also when there is none");
                    translated.pre_routing = true;
                }
                _ => phase.rejected("only a policy of a Gateway comes before the choice of a route"),
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
            field.dropped("how backends are reached: see `backends[].policies`");
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
            field.rejected("this `mode` is not understood");
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
                issuer.exact("provider issuer; `nbf` is checked here too, and a token without `kid` is tried")
            }
            None => provider.rejected("a provider needs an `issuer`"),
        }
        if let Some(list) = provider.get("audiences") {
            list.exact("provider audiences");
        }
        let jwks = provider.get("jwks");
        let keys = match (jwks.and_then(|keys| keys.get("inline")), jwks.and_then(|keys| keys.get("remote"))) {
            (Some(inline), None) => inline_keys(inline),
            (None, Some(remote)) => remote_keys(ctx, remote),
            _ => {
                provider.rejected("a provider needs one of `jwks.inline` and `jwks.remote`");
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
            field.rejected("a place that is an expression is not supported here");
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
        field.rejected("`backendRef` with `jwksPath`, or `url`, is needed");
        return None;
    };
    match path.text() {
        Some(text) if text.starts_with("${") => {
            path.approximate("the path of the url, behind a slash: the variable's value has none of its own in front")
        }
        _ => path.exact("the path of the url"),
    }
    let Some((host, target, port)) = super::gateway_api::backend_address(ctx, reference) else {
        // without keys of its own a provider would look for some at its issuer
        field.rejected("it is not known where the keys are");
        return None;
    };
    let tls = ctx.backend_tls(reference, &target, port);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let name = format!("{}.{}.svc.cluster.local:{port}", target.name, target.namespace);
    let url = format!("{scheme}://{name}/{}", path.text().unwrap_or_default().trim_start_matches('/'));
    let connect = (host != name).then_some(host);
    Some(jwks_for(&url).with_some("connectTo", connect).with_some("tls", tls))
}

/// Each expression is a rule of its own, whatever the CRD's description says.
fn authorization_rules(field: FieldRef<'_>) -> Vec<Commented> {
    let action = field.get("action");
    let kind = match action.and_then(FieldRef::text) {
        None | Some("Allow") => "allow",
        Some("Deny") => "deny",
        Some("Require") => "require",
        Some(_) => {
            field.rejected("this `action` is not understood");
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
        // there the host is the authority as it was sent
        let map_field = |name: &str| Some(format!("request.{}", if name == "host" { "authority" } else { name }));
        let text = map_request_fields(expression.text().unwrap_or_default().trim(), map_field);
        let checked =
            text.as_ref().map_or_else(|| Err("name the fields of `request`".to_owned()), |text| validate(text));
        match checked {
            Ok(()) if kind == "deny" => expression.narrower("a deny that fails to evaluate refuses here"),
            Ok(()) if any_of_several => expression.approximate("one of them is enough, as the controller has it"),
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
