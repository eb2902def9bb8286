//! Compiles `jwtAuth`: loads the keys of its providers and checks its identity headers.

use std::sync::Arc;

use crate::auth::{Algorithm, Algorithms, AuthMode, ClaimHeader, JwtAuth, JwtSettings, Location, ProviderSettings};
use crate::compile::Compiler;
use crate::config::policy::{
    Algorithm as AlgorithmConfig, ClaimEncoding, JwtAuthConfig, JwtMode, LocationConfig, ProviderConfig,
};
use crate::config::span::{SourceSpan, Spanned};
use crate::policy::header_modifier::protected_reason;

impl Compiler<'_> {
    /// Compiles the policy, once for all routes that it applies to. `None` after an error.
    pub(in crate::compile) fn jwt_auth(&mut self, policy: &Spanned<JwtAuthConfig>) -> Option<Arc<JwtAuth>> {
        if let Some(cached) = self.jwt_policies.get(&policy.span.start) {
            return cached.clone();
        }
        let compiled = self.build_jwt_auth(policy).map(Arc::new);
        self.jwt_policies.insert(policy.span.start, compiled.clone());
        compiled
    }

    fn build_jwt_auth(&mut self, policy: &Spanned<JwtAuthConfig>) -> Option<JwtAuth> {
        let providers: Vec<_> = policy.providers.iter().map(|provider| self.provider(provider)).collect();
        let providers: Option<Vec<_>> = providers.into_iter().collect();
        let mode = policy.mode.as_ref().map_or(JwtMode::default(), |mode| mode.value);
        let settings = JwtSettings {
            mode: match mode {
                JwtMode::Strict => AuthMode::Strict,
                JwtMode::Optional => AuthMode::Optional,
                JwtMode::Permissive => AuthMode::Permissive,
                // evaluated like `strict`, but never enforced
                JwtMode::Shadow => AuthMode::Strict,
            },
            shadow: mode == JwtMode::Shadow,
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
            Ok(compiled) => {
                self.check_identity_headers(&compiled, &policy.span);
                Some(compiled)
            }
            Err(error) => {
                self.error(&policy.span, error.to_string());
                None
            }
        }
    }

    /// Rejects identity headers that frame a request, that the gateway writes, or that carry tokens: identity headers are
    /// removed from every request before they are set.
    fn check_identity_headers(&mut self, policy: &JwtAuth, span: &SourceSpan) {
        for name in policy.identity_header_names() {
            let holds_token =
                policy.locations().iter().any(|l| matches!(l, Location::Header { name: header, .. } if header == name));
            let reason = match name.as_str() {
                _ if holds_token => Some("tokens are read from it"),
                "authorization" | "cookie" => Some("it carries the client's own credentials"),
                "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-request-id" | "traceparent"
                | "tracestate" | "via" => Some("the gateway writes it itself"),
                _ => protected_reason(name),
            };
            if let Some(reason) = reason {
                self.error(span, format!("the header `{name}` cannot carry claims: {reason}"));
            }
        }
    }

    fn provider(&mut self, provider: &ProviderConfig) -> Option<ProviderSettings> {
        let algorithms = provider
            .algorithms
            .as_ref()
            .map(|algorithms| Algorithms::from_slice(&algorithms.iter().copied().map(algorithm).collect::<Vec<_>>()));
        Some(ProviderSettings {
            name: provider.name.clone(),
            issuers: provider.issuers.as_ref().map_or_else(Vec::new, |issuers| issuers.value.clone()),
            audiences: provider.audiences.as_ref().map_or_else(Vec::new, |audiences| audiences.value.clone()),
            keys: self.keys(provider, algorithms)?,
            algorithms,
            leeway: provider.leeway.get(),
            required_claims: provider.required_claims.clone(),
            max_lifetime: provider.max_lifetime.map(|limit| limit.get()),
            token_types: provider.token_types.clone().unwrap_or_default(),
            locations: provider.locations.as_ref().map(|locations| locations.iter().filter_map(location).collect()),
        })
    }
}

pub(in crate::compile) fn location(config: &LocationConfig) -> Option<Location> {
    Some(match config {
        LocationConfig::Header(header) => {
            Location::Header { name: header.name.0.clone(), prefix: header.prefix.clone().unwrap_or_default() }
        }
        LocationConfig::Cookie(cookie) => Location::Cookie { name: cookie.name.clone() },
        LocationConfig::QueryParameter(query) => Location::Query { name: query.name.clone() },
    })
}

fn algorithm(config: AlgorithmConfig) -> Algorithm {
    match config {
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
