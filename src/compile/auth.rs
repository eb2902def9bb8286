//! `jwtAuth`: keys are read and judged, and the settings become a policy that is ready to use.

use std::sync::Arc;

use super::Compiler;
use crate::auth::{Algorithm, Algorithms, ClaimHeader, JwtAuth, Location, Mode, ProviderSettings, Settings};
use crate::config::place::{Located, Place};
use crate::config::policy::{
    Algorithm as AlgorithmConfig, ClaimEncoding, JwtAuth as JwtAuthConfig, JwtMode, Location as LocationConfig,
    Provider,
};
use crate::policy::headers::refusal;

impl Compiler<'_> {
    /// The policy at this place, made once however many routes it holds for. `None` after an error.
    pub(super) fn jwt_auth(&mut self, policy: &Located<JwtAuthConfig>) -> Option<Arc<JwtAuth>> {
        if let Some(made) = self.jwt.get(&policy.place.start) {
            return made.clone();
        }
        let made = self.make_jwt_auth(policy).map(Arc::new);
        self.jwt.insert(policy.place.start, made.clone());
        made
    }

    fn make_jwt_auth(&mut self, policy: &Located<JwtAuthConfig>) -> Option<JwtAuth> {
        let providers: Vec<_> = policy.providers.iter().map(|provider| self.provider(provider)).collect();
        let providers: Option<Vec<_>> = providers.into_iter().collect();
        let written = policy.mode.as_ref().map_or(JwtMode::default(), |mode| mode.value);
        let settings = Settings {
            mode: match written {
                JwtMode::Strict => Mode::Strict,
                JwtMode::Optional => Mode::Optional,
                JwtMode::Permissive => Mode::Permissive,
                // judged as strictly as can be, and nobody is refused for it
                JwtMode::Shadow => Mode::Strict,
            },
            shadow: written == JwtMode::Shadow,
            locations: policy.locations.iter().filter_map(location).collect(),
            forward: policy.forward,
            realm: policy.realm.clone(),
            providers: providers?,
            claims_to_headers: policy
                .claims_to_headers
                .iter()
                .map(|entry| ClaimHeader {
                    path: entry.claim.0.clone(),
                    header: entry.header.0.clone(),
                    json: entry.encoding == ClaimEncoding::Json,
                })
                .collect(),
            payload_header: policy.payload_header.as_ref().map(|name| name.0.clone()),
            split_claims: policy.split_claims.clone(),
            max_token_size: self.process.limits.token.get(),
        };
        match JwtAuth::new(settings) {
            Ok(made) => {
                self.check_identity_headers(&made, &policy.place);
                Some(made)
            }
            Err(error) => {
                self.error(&policy.place, error.to_string());
                None
            }
        }
    }

    /// Identity headers are removed from every request before one is set: they can't be what frames a request, what the
    /// gateway itself writes, or what a token is read from.
    fn check_identity_headers(&mut self, policy: &JwtAuth, place: &Place) {
        for name in policy.identity_header_names() {
            let read =
                policy.locations().iter().any(|l| matches!(l, Location::Header { name: own, .. } if own == name));
            let why = match name.as_str() {
                _ if read => Some("tokens are read from it"),
                "authorization" | "cookie" => Some("it carries the client's own credentials"),
                "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-request-id" | "traceparent"
                | "tracestate" | "via" => Some("the gateway writes it itself"),
                _ => refusal(name),
            };
            if let Some(why) = why {
                self.error(place, format!("the header `{name}` can't carry claims: {why}"));
            }
        }
    }

    fn provider(&mut self, provider: &Provider) -> Option<ProviderSettings> {
        let algorithms = provider
            .algorithms
            .as_ref()
            .map(|named| Algorithms::of(&named.iter().copied().map(algorithm).collect::<Vec<_>>()));
        Some(ProviderSettings {
            name: provider.name.clone(),
            issuers: provider.issuers.as_ref().map_or_else(Vec::new, |issuers| issuers.value.clone()),
            audiences: provider.audiences.as_ref().map_or_else(Vec::new, |audiences| audiences.value.clone()),
            keys: self.keys(provider, algorithms)?,
            algorithms,
            leeway: provider.leeway.get(),
            required_claims: provider.required_claims.clone(),
            max_lifetime: provider.max_lifetime.map(|most| most.get()),
            token_types: provider.token_types.clone().unwrap_or_default(),
            locations: provider.locations.as_ref().map(|all| all.iter().filter_map(location).collect()),
        })
    }
}

pub(super) fn location(written: &LocationConfig) -> Option<Location> {
    Some(match written {
        LocationConfig::Header(header) => {
            Location::Header { name: header.name.0.clone(), prefix: header.prefix.clone().unwrap_or_default() }
        }
        LocationConfig::Cookie(cookie) => Location::Cookie { name: cookie.name.clone() },
        LocationConfig::QueryParameter(query) => Location::Query { name: query.name.clone() },
    })
}

fn algorithm(written: AlgorithmConfig) -> Algorithm {
    match written {
        AlgorithmConfig::RS256 => Algorithm::RS256,
        AlgorithmConfig::RS384 => Algorithm::RS384,
        AlgorithmConfig::RS512 => Algorithm::RS512,
        AlgorithmConfig::PS256 => Algorithm::PS256,
        AlgorithmConfig::PS384 => Algorithm::PS384,
        AlgorithmConfig::PS512 => Algorithm::PS512,
        AlgorithmConfig::ES256 => Algorithm::ES256,
        AlgorithmConfig::ES384 => Algorithm::ES384,
        AlgorithmConfig::ES512 => Algorithm::ES512,
        AlgorithmConfig::EdDSA => Algorithm::EdDSA,
        AlgorithmConfig::HS256 => Algorithm::HS256,
        AlgorithmConfig::HS384 => Algorithm::HS384,
        AlgorithmConfig::HS512 => Algorithm::HS512,
    }
}
