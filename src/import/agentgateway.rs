//! agentgateway on Kubernetes: settings of one kind come from the most specific policy, and rules of all levels are
//! taken together.

use super::attach::{Attachment, Level, attachments};
use super::cluster::Cluster;
use super::expression::{check, with_request};
use super::jwt::{Jwt, Location, Provider, unique};
use super::manifest::Field;
use super::out::{Commented, Map, Value};
use super::plan::Plan;

/// The group of agentgateway's own kinds.
pub(super) const GROUP: &str = "agentgateway.dev";

/// A policy, translated.
struct Policy<'a> {
    object: Field<'a>,
    attachments: Vec<Attachment>,
    jwt: Option<Jwt>,
    rules: Vec<Commented>,
    cors: Map,
    closed: bool,
    /// What it is for is not understood, so it could be for anything.
    lost: bool,
    /// It comes before the choice of a route.
    before: bool,
}

/// Puts the policies of the files where they hold.
pub(super) fn apply(cluster: &Cluster<'_>, plan: &mut Plan) {
    let kinds = ["AgentgatewayPolicy", "TrafficPolicy"];
    let objects = kinds.into_iter().flat_map(|kind| cluster.all(GROUP, kind));
    let policies: Vec<Policy<'_>> = objects.map(|object| policy(cluster, object)).collect();
    for listener in &mut plan.listeners {
        let mut routes = std::mem::take(&mut listener.routes);
        for route in &mut routes {
            let level = |policy: &Policy<'_>| {
                policy.attachments.iter().filter_map(|one| one.level(listener, Some(&route.id))).max()
            };
            let mut holding: Vec<(Level, &Policy<'_>)> =
                policies.iter().filter_map(|policy| Some((level(policy)?, policy))).collect();
            holding.sort_by_key(|(level, _)| *level);
            if let Some((one, another)) = rivals(&holding) {
                another.object.refused(format!(
                    "{} checks tokens for the route {} too: which of the two holds is not settled",
                    one.object.doc.label, route.name
                ));
                route.closed = true;
            }
            let mut rules = Vec::new();
            for (_, policy) in &holding {
                route.closed |= policy.closed;
                rules.extend(policy.rules.iter().cloned());
                if let Some(jwt) = &policy.jwt {
                    route.jwt = Some((jwt.clone(), policy.object.doc.origin()));
                }
            }
            if let Some((_, policy)) = holding.iter().rev().find(|(_, policy)| !policy.cors.is_empty())
                && !route.policies.has("cors")
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
        listener.closed |= policies.iter().any(|policy| policy.lost);
    }
}

/// Two policies of which it is not clear what they make together: they check tokens differently on the most specific
/// level that has any, or one of them before the choice of the route and one after it, which then finds no token.
fn rivals<'p, 'a>(holding: &[(Level, &'p Policy<'a>)]) -> Option<(&'p Policy<'a>, &'p Policy<'a>)> {
    let mut checking = holding.iter().rev().filter(|(_, policy)| policy.jwt.is_some());
    let of = |before| checking.clone().find(|(_, policy)| policy.before == before);
    if let (Some((_, first)), Some((_, second))) = (of(true), of(false)) {
        return Some((*first, *second));
    }
    let ((level, last), (below, other)) = (checking.next()?, checking.next()?);
    let same = |one: &Policy<'_>, another: &Policy<'_>| match (&one.jwt, &another.jwt) {
        (Some(one), Some(another)) => one.accepts_the_same(another) && one.mode == another.mode,
        _ => true,
    };
    (level == below && !same(last, other)).then_some((*other, *last))
}

/// What an object of agentgateway's means that no translation reads; false when leaving it out could let somebody in.
pub(super) fn other_object(root: Field<'_>) -> bool {
    match &*root.doc.kind {
        "AgentgatewayPolicy" | "TrafficPolicy" | "AgentgatewayBackend" => true,
        "AgentgatewayParameters" => super::dropped(root, "about the proxy, not about requests"),
        _ => {
            root.refused("this kind of object is not understood, and it could refuse requests");
            false
        }
    }
}

fn policy<'a>(cluster: &Cluster<'a>, object: Field<'a>) -> Policy<'a> {
    let mut made = Policy {
        object,
        attachments: Vec::new(),
        jwt: None,
        rules: Vec::new(),
        cors: Map::default(),
        closed: false,
        lost: false,
        before: false,
    };
    let Some(spec) = object.get("spec") else { return made };
    made.attachments = attachments(cluster, spec);
    if let Some(traffic) = spec.get("traffic") {
        if let Some(phase) = traffic.get("phase") {
            match phase.text() {
                Some("PostRouting") => phase.exact("after the route was chosen"),
                Some("PreRouting") if made.attachments.iter().all(Attachment::is_gateway) => {
                    phase.approximate("looked at when the route was chosen, also when there is none");
                    made.before = true;
                }
                _ => phase.refused("only a policy of a Gateway comes before the choice of a route"),
            }
        }
        made.jwt = traffic.get("jwtAuthentication").map(|field| authentication(cluster, field));
        if let Some(field) = traffic.get("authorization") {
            made.rules = authorization(field);
        }
        super::gateway_api::cors(traffic, &mut made.cors);
    }
    for key in ["frontend", "backend"] {
        if let Some(field) = spec.get(key).filter(|_| key == "backend") {
            field.dropped("how backends are reached: see `backends[].policies`");
        }
    }
    cluster.report.sweep(spec);
    made.closed = cluster.report.tainted(object);
    made.lost = super::attach::lost(cluster, spec);
    made
}

fn authentication(cluster: &Cluster<'_>, field: Field<'_>) -> Jwt {
    let mode = field.get("mode");
    let written = match mode.and_then(Field::text) {
        None | Some("Strict") => "strict",
        Some("Optional") => "optional",
        Some("Permissive") => "permissive",
        Some(_) => {
            field.refused("this `mode` is not understood");
            "strict"
        }
    };
    if let Some(mode) = mode {
        mode.exact("mode");
    }
    let mut names = Vec::new();
    let mut providers = Vec::new();
    for one in field.list("providers") {
        let issuer = one.text_of("issuer").unwrap_or_default();
        match one.get("issuer") {
            Some(issuer) => {
                issuer.exact("provider issuer; `nbf` is checked here too, and a token without `kid` is tried")
            }
            None => one.refused("a provider needs an `issuer`"),
        }
        if let Some(list) = one.get("audiences") {
            list.exact("provider audiences");
        }
        let jwks = one.get("jwks");
        let keys = match (jwks.and_then(|keys| keys.get("inline")), jwks.and_then(|keys| keys.get("remote"))) {
            (Some(inline), None) => inline_keys(inline),
            (None, Some(remote)) => remote_keys(cluster, remote),
            _ => {
                one.refused("a provider needs one of `jwks.inline` and `jwks.remote`");
                None
            }
        };
        providers.push(Provider {
            name: unique(&mut names, issuer),
            issuer: Some(issuer.to_owned()).filter(|issuer| !issuer.is_empty()),
            audiences: one.texts("audiences").into_iter().map(str::to_owned).collect(),
            jwks: keys,
            required: vec!["exp".to_owned()],
            locations: None,
            origin: one.origin(),
        });
    }
    let location = field.get("location").and_then(location);
    Jwt {
        mode: written,
        providers,
        forward: false,
        claims: Vec::new(),
        payload_header: None,
        split: Vec::new(),
        locations: Some(vec![location.unwrap_or_else(|| Location::Header("authorization".into(), "Bearer ".into()))]),
    }
}

fn location(field: Field<'_>) -> Option<Location> {
    let (key, one) = field.entries().next()?;
    let name = one.text_of("name");
    let made = match (key, name) {
        ("header", Some(name)) => {
            one.only(&["name", "prefix"]);
            let default = if name.eq_ignore_ascii_case("authorization") { "Bearer " } else { "" };
            Location::Header(name.to_owned(), one.text_of("prefix").unwrap_or(default).to_owned())
        }
        ("queryParameter", Some(name)) => Location::Query(name.to_owned()),
        ("cookie", Some(name)) => Location::Cookie(name.to_owned()),
        _ => {
            field.refused("a place that is an expression is not supported here");
            return None;
        }
    };
    one.exact(format!("locations {key}"));
    Some(made)
}

fn inline_keys(field: Field<'_>) -> Option<Map> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(field.text().unwrap_or_default()) {
        Ok(set) => {
            field.exact("jwks inline");
            Some(Map::default().with("inline", serde_json::Value::Object(set).to_string()))
        }
        Err(error) => {
            field.refused(format!("not a key set: {error}"));
            None
        }
    }
}

fn remote_keys(cluster: &Cluster<'_>, field: Field<'_>) -> Option<Map> {
    let cache = field.get("cacheDuration");
    if let Some(cache) = cache {
        cache.exact("jwks cacheDuration");
    }
    let made = |url: &str| {
        Map::default()
            .with("url", url)
            .with("cacheDuration", cache.and_then(Field::text).unwrap_or("5m"))
            .with("timeout", "10s")
            .with("staleFor", "8760h")
    };
    if let Some((url, text)) = field.get("url").and_then(|url| Some((url, url.text()?))) {
        url.exact("jwks url");
        return Some(made(text));
    }
    let (Some(reference), Some(path)) = (field.get("backendRef"), field.get("jwksPath")) else {
        field.refused("`backendRef` with `jwksPath`, or `url`, is needed");
        return None;
    };
    match path.text() {
        Some(text) if text.starts_with("${") => {
            path.approximate("the path of the url, behind a slash: the variable's value has none of its own in front")
        }
        _ => path.exact("the path of the url"),
    }
    let Some((host, target, port)) = super::gateway_api::address(cluster, reference) else {
        // without keys of its own a provider would look for some at its issuer
        field.refused("it is not known where the keys are");
        return None;
    };
    let tls = cluster.backend_tls(reference, &target, port);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let name = format!("{}.{}.svc.cluster.local:{port}", target.name, target.namespace);
    let url = format!("{scheme}://{name}/{}", path.text().unwrap_or_default().trim_start_matches('/'));
    let connect = (host != name).then_some(host);
    Some(made(&url).with_some("connectTo", connect).with_some("tls", tls))
}

/// Each expression is a rule of its own, whatever the CRD's description says.
fn authorization(field: Field<'_>) -> Vec<Commented> {
    let action = field.get("action");
    let kind = match action.and_then(Field::text) {
        None | Some("Allow") => "allow",
        Some("Deny") => "deny",
        Some("Require") => "require",
        Some(_) => {
            field.refused("this `action` is not understood");
            "deny"
        }
    };
    if let Some(action) = action {
        action.exact(format!("{kind} rules"));
    }
    let Some(list) = field.at(&["policy", "matchExpressions"]) else { return Vec::new() };
    let expressions: Vec<_> = list.items().collect();
    let several = kind == "allow" && expressions.len() > 1;
    let mut rules = Vec::new();
    for (index, one) in expressions.iter().enumerate() {
        // there the host is the authority as it was sent
        let ours = |name: &str| Some(format!("request.{}", if name == "host" { "authority" } else { name }));
        let text = with_request(one.text().unwrap_or_default().trim(), ours);
        let checked = text.as_ref().map_or_else(|| Err("name the fields of `request`".to_owned()), |text| check(text));
        match checked {
            Ok(()) if kind == "deny" => one.narrower("a deny that fails to evaluate refuses here"),
            Ok(()) if several => one.approximate("one of them is enough, as the controller has it"),
            Ok(()) => one.exact(format!("{kind} rule")),
            Err(why) => one.refused(why),
        }
        let name = match expressions.len() {
            1 => field.doc.name.clone(),
            _ => format!("{}[{index}]", field.doc.name),
        };
        let rule = Map::default()
            .with("name", format!("{}/{name}", field.doc.namespace))
            .with(kind, text.unwrap_or_else(|| "false".to_owned()));
        rules.push(Commented::new(format!("from {}", one.origin()), rule));
    }
    rules
}
