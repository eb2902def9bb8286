//! Values that come from the environment.

use std::time::Duration;

use super::super::{Config, Source, load};

/// Loads a config with `word` in the place of `VALUE`, where the environment variable `V` is `value`.
fn load_with(word: &str, value: &str) -> Result<Config, Vec<String>> {
    let text = "
config: {via: VALUE, limits: {http2Streams: VALUE, head: VALUE, headTimeout: VALUE}}
binds: [{port: VALUE, listeners: [{name: VALUE, policies: {}}]}]
";
    let env = |name: &str| (name == "V").then(|| value.to_owned());
    let source = Source::new("gw.yaml", text.replace("VALUE", word));
    load(source, &env).map(|loaded| loaded.config).map_err(|errors| super::render_findings(&errors))
}

/// Returns the errors about these fields.
fn errors_about(word: &str, value: &str, fields: &[&str]) -> Vec<String> {
    let errors = load_with(word, value).err().unwrap_or_default();
    let is_about = |line: &String| fields.iter().any(|field| line.contains(&format!("{field}: ")));
    errors.into_iter().filter(is_about).collect()
}

#[test]
fn numbers_can_come_from_variables() {
    for (port, value) in
        [("${V}", "8080"), ("'${V}'", "8080"), ("\"${V}\"", "8080"), ("'80${V}'", "80"), ("${NONE:-8080}", "")]
    {
        let env = |name: &str| (name == "V").then(|| value.to_owned());
        let text = format!("binds:\n- port: {port}\n  listeners: [{{}}]\n");
        let config = load(Source::new("gw.yaml", text), &env).map(|loaded| loaded.config);
        assert_eq!(config.unwrap().binds[0].port, 8080, "{port}");
    }
    for field in ["port", "http2Streams", "head"] {
        assert_eq!(errors_about("'${V}'", "8080", &[field]), [""; 0], "{field}");
    }
}

#[test]
fn booleans_can_come_from_variables() {
    for (value, good) in [("true", true), ("false", true), ("yes", false), ("", false), ("1", false)] {
        assert_eq!(errors_about("'${V}'", value, &["via"]).is_empty(), good, "{value}");
    }
}

#[test]
fn numeric_variable_in_a_string_field_stays_a_string() {
    assert_eq!(errors_about("'${V}'", "8080", &["name"]), [""; 0]);
    assert_eq!(errors_about("${V:-8080}", "", &["name"]), [""; 0]);
}

#[test]
fn error_names_the_variable_but_not_its_value() {
    for value in ["s3cret", "", "{a: 1}", "[1]", "1\n2", "70000"] {
        let errors = errors_about("'${V}'", value, &["port"]);
        assert_eq!(errors.len(), 1, "{value}: {errors:?}");
        assert!(errors[0].contains("`${V}`") && !errors[0].contains("s3cret"), "{errors:?}");
    }
}

#[test]
fn quoted_number_without_a_variable_is_a_string() {
    assert!(errors_about("'8080'", "", &["port"])[0].ends_with("found the string `8080`"));
    assert!(errors_about("'true'", "", &["via"])[0].ends_with("found the string `true`"));
}

#[test]
fn zero_needs_no_unit() {
    let head_timeout = |word: &str, value: &str| errors_about(word, value, &["headTimeout"]);
    for (word, value) in [("0", ""), ("'0'", ""), ("0s", ""), ("'${V}'", "0"), ("'${V}'", "5s")] {
        assert!(head_timeout(word, value).iter().all(|error| !error.contains("not a duration")), "{word} {value}");
    }
    let timeout = "binds: [{port: 1, listeners: [{policies: {timeout: {request: 0}}}]}]";
    let config = load(Source::new("gw.yaml", timeout.to_owned()), &|_| None).map(|loaded| loaded.config).unwrap();
    let timeout = config.binds[0].listeners[0].policies.timeout.as_ref().unwrap();
    assert_eq!(timeout.request.map(|all| all.get()), Some(Duration::ZERO));
}

#[test]
fn duration_without_unit_suggests_units() {
    let form = "a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m";
    for (word, shown) in [("5", "5"), ("'5'", "5"), ("1.5", "1.5")] {
        let errors = errors_about(word, "", &["headTimeout"]);
        assert!(errors[0].ends_with(&format!("not a duration: `{shown}`; {form}")), "{errors:?}");
    }
    assert!(errors_about("-5", "", &["headTimeout"])[0].ends_with("a duration cannot be negative: `-5`"));
    assert!(errors_about("true", "", &["headTimeout"])[0].ends_with("found `true`"));
    assert!(errors_about("", "", &["headTimeout"])[0].contains("the value is missing"));
}
