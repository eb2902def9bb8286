//! The policies of Envoy Gateway that are not about tokens: what they mean for who a client is, and what is left out.

use super::super::cluster::Cluster;
use super::super::manifest::Field;
use super::super::plan::Plan;
use super::GROUP;

/// Settings that shape connections and decide about no request.
const TUNING: [&str; 14] = [
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

/// Reads `ClientTrafficPolicy` and `BackendTrafficPolicy`.
pub(super) fn apply(cluster: &Cluster<'_>, plan: &mut Plan) {
    for object in
        cluster.all(GROUP, "ClientTrafficPolicy").into_iter().chain(cluster.all(GROUP, "BackendTrafficPolicy"))
    {
        let Some(spec) = object.get("spec") else { continue };
        super::attachments(cluster, spec);
        for key in TUNING {
            if let Some(field) = spec.get(key) {
                field.dropped("tunes connections; see `timeout`, `retry` and `config.limits`");
            }
        }
        if let Some(field) = spec.at(&["clientIPDetection", "xForwardedFor"]) {
            trusted(field, plan);
        }
        if let Some(field) = spec.get("rateLimit") {
            field.refused("limits of rates are not imported; write `localRateLimit`");
        }
        cluster.report.sweep(spec);
        if cluster.report.tainted(object) {
            plan.listeners.iter_mut().for_each(|listener| listener.closed = true);
        }
    }
}

fn trusted(field: Field<'_>, plan: &mut Plan) {
    if let Some(ranges) = field.get("trustedCIDRs") {
        for (range, text) in ranges.items().filter_map(|range| Some((range, range.text()?))) {
            range.exact("config.trustedProxies");
            plan.trusted_proxies.push(text.to_owned());
        }
    }
    if let Some(hops) = field.get("numTrustedHops") {
        match plan.trusted_proxies.is_empty() {
            true => hops.refused("say which proxies stand in front, by their addresses: `--trusted-proxy CIDR`"),
            false => hops.approximate("config.trustedProxies, by address and not by number"),
        }
    }
}
