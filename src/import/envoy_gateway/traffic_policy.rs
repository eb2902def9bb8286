//! `ClientTrafficPolicy` and `BackendTrafficPolicy`: translates trusted proxies and drops connection tuning.

use crate::import::context::ImportContext;
use crate::import::field::FieldRef;
use crate::import::groups::ENVOY_GATEWAY;
use crate::import::model::Model;

/// The settings that tune connections and do not affect access.
const TUNING_KEYS: [&str; 14] = [
    "tcpKeepalive",
    "timeout",
    "connection",
    "http1",
    "http2",
    "http3",
    "healthCheck",
    "loadBalancer",
    "retry",
    "circuitBreaker",
    "dns",
    "tcpKeepAlive",
    "compression",
    "telemetry",
];

/// Translates the traffic policies.
pub(super) fn apply(ctx: &ImportContext<'_>, model: &mut Model) {
    for object in ctx
        .objects(ENVOY_GATEWAY, "ClientTrafficPolicy")
        .into_iter()
        .chain(ctx.objects(ENVOY_GATEWAY, "BackendTrafficPolicy"))
    {
        let Some(spec) = object.get("spec") else { continue };
        crate::import::envoy_gateway::target_refs(ctx, spec);
        for key in TUNING_KEYS {
            if let Some(field) = spec.get(key) {
                field.dropped("tunes connections; see `timeout`, `retry` and `config.limits`");
            }
        }
        if let Some(field) = spec.get_path(&["clientIPDetection", "xForwardedFor"]) {
            trusted_proxies(field, model);
        }
        if let Some(field) = spec.get("rateLimit") {
            field.rejected("rate limits are not imported; write `localRateLimit`");
        }
        spec.reject_unhandled();
        if object.has_rejected() {
            model.listeners.iter_mut().for_each(|listener| listener.closed = true);
        }
    }
}

fn trusted_proxies(field: FieldRef<'_>, model: &mut Model) {
    if let Some(ranges) = field.get("trustedCIDRs") {
        for (range, text) in ranges.items().filter_map(|range| Some((range, range.text()?))) {
            range.exact("config.trustedProxies");
            model.trusted_proxies.push(text.to_owned());
        }
    }
    if let Some(hops) = field.get("numTrustedHops") {
        match model.trusted_proxies.is_empty() {
            true => hops.rejected("name the proxies in front of the gateway by address: `--trusted-proxy CIDR`"),
            false => hops.approximate("config.trustedProxies, by address instead of number of hops"),
        }
    }
}
