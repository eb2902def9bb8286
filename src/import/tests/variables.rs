//! `$` in manifests: variables are kept, and every other `$` is literal.

use super::envoy_gateway::ROUTES;
use super::*;

const FILES: &str = r#"
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: eg}]
  traffic:
    jwtAuthentication:
      providers:
      - issuer: ${KEYCLOAK_ISSUER}
        audiences: ['a$$b', '${1}', 'c$']
        jwks: {remote: {url: '${KEYCLOAK_ISSUER}/certs'}}
    authorization:
      policy: {matchExpressions: ['request.path.matches("^/a$|^/b${2}$")']}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
spec: {template: {spec: {containers: [{name: c, args: ['${KEYCLOAK_ISSUER}', '${ELSEWHERE}']}]}}}
"#;

#[test]
fn variables_are_kept_and_reported() {
    let imported = import_file(Dialect::Agentgateway, &format!("{ROUTES}{FILES}"), &mapped_options());
    let findings = report(&imported);
    let config = imported.config.unwrap();
    for text in [config.to_yaml(), config.to_json()] {
        let issuer =
            |text: &str| ["'", "\""].iter().any(|quote| config.to_yaml().contains(&format!("{quote}{text}{quote}")));
        assert!(issuer("${KEYCLOAK_ISSUER}") && issuer("${KEYCLOAK_ISSUER}/certs"), "{text}");
        let source = Source::new("out.yaml", text.clone());
        let errors = load(source.clone(), &|_| None).unwrap_err();
        assert!(errors.iter().all(|error| error.code == crate::config::DiagnosticCode::UnsetVariable), "{errors:?}");
        let env = |name: &str| (name == "KEYCLOAK_ISSUER").then(|| "https://idp.example".to_owned());
        let loaded = load(source, &env).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        let listener = &loaded.config.binds[0].listeners[0];
        let provider = &listener.policies.jwt_auth.as_ref().unwrap().providers[0];
        assert_eq!(provider.issuers.as_ref().unwrap().value, ["https://idp.example"]);
        let crate::config::policy::JwksSource::Url(remote) = &provider.jwks.value else { panic!("{text}") };
        assert_eq!(remote.url.to_string(), "https://idp.example/certs");
    }
    let inputs: Vec<&str> = findings.lines().filter(|line| line.contains(": needs input: ")).collect();
    assert_eq!(inputs.len(), 2, "{findings}");
    for (line, field) in inputs.iter().zip(["issuer", "jwks.remote.url"]) {
        assert!(line.contains(&format!("providers[0].{field}: ")), "{line}");
        assert!(line.contains("the environment variable `KEYCLOAK_ISSUER`"), "{line}");
    }
}

#[test]
fn other_dollar_signs_are_literal() {
    let files = format!("{ROUTES}{FILES}").replace("${KEYCLOAK_ISSUER}/", "https://idp.example/");
    let gateway = ImportedGateway::import(Dialect::Agentgateway, &files, &mapped_options());
    let loaded = load(Source::new("out.yaml", gateway.yaml.clone()), &|_| Some(String::from("x"))).unwrap();
    let listener = &loaded.config.binds[0].listeners[0];
    let provider = &listener.policies.jwt_auth.as_ref().unwrap().providers[0];
    assert_eq!(provider.audiences.as_ref().unwrap().value, ["a$$b", "${1}", "c$"]);
    assert!(gateway.yaml.contains("^/a$|^/b$${2}$"), "{}", gateway.yaml);
    assert_eq!(gateway.decide(&get_request("/foo")), "401");
}
