//! Values that come from the environment.

use std::time::Duration;

use super::super::{Config, Source, load};

/// The config with `word` put for `VALUE`, where `V` is `value` in the environment.
fn load_with(word: &str, value: &str) -> Result<Config, Vec<String>> {
    let text = "
config: {via: VALUE, limits: {http2Streams: VALUE, head: VALUE, headTimeout: VALUE}}
binds: [{port: VALUE, listeners: [{name: VALUE, policies: {}}]}]
";
    let env = |name: &str| (name == "V").then(|| value.to_owned());
    let source = Source::new("gw.yaml", text.replace("VALUE", word));
    load(source, &env).map(|loaded| loaded.config).map_err(|errors| super::render_findings(&errors))
}

/// What `with` says of these fields alone.
fn errors_about(word: &str, value: &str, fields: &[&str]) -> Vec<String> {
    let errors = load_with(word, value).err().unwrap_or_default();
    let is_about = |line: &String| fields.iter().any(|field| line.contains(&format!("{field}: ")));
    errors.into_iter().filter(is_about).collect()
}

#[test]
fn a_number_may_come_from_a_variable_in_any_spelling() {
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
fn a_truth_value_may_come_from_a_variable() {
    for (value, good) in [("true", true), ("false", true), ("yes", false), ("", false), ("1", false)] {
        assert_eq!(errors_about("'${V}'", value, &["via"]).is_empty(), good, "{value}");
    }
}

#[test]
fn a_text_that_is_a_number_by_a_variable_stays_a_text() {
    assert_eq!(errors_about("'${V}'", "8080", &["name"]), [""; 0]);
    assert_eq!(errors_about("${V:-8080}", "", &["name"]), [""; 0]);
}

#[test]
fn a_value_that_does_not_fit_is_told_by_its_variable_and_not_shown() {
    for value in ["s3cret", "", "{a: 1}", "[1]", "1\n2", "70000"] {
        let errors = errors_about("'${V}'", value, &["port"]);
        assert_eq!(errors.len(), 1, "{value}: {errors:?}");
        assert!(errors[0].contains("`${V}`") && !errors[0].contains("s3cret"), "{errors:?}");
    }
}

#[test]
fn a_number_in_quotes_without_a_variable_is_a_text() {
    assert!(errors_about("'8080'", "", &["port"])[0].ends_with("found the string `8080`"));
    assert!(errors_about("'true'", "", &["via"])[0].ends_with("found the string `true`"));
}

#[test]
fn nothing_takes_no_unit() {
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
fn a_duration_that_has_no_unit_is_told_which_it_could_have() {
    let form = "a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m";
    for (word, shown) in [("5", "5"), ("'5'", "5"), ("1.5", "1.5")] {
        let errors = errors_about(word, "", &["headTimeout"]);
        assert!(errors[0].ends_with(&format!("not a duration: `{shown}`; {form}")), "{errors:?}");
    }
    assert!(errors_about("-5", "", &["headTimeout"])[0].ends_with("a duration can't be negative: `-5`"));
    assert!(errors_about("true", "", &["headTimeout"])[0].ends_with("found `true`"));
    assert!(errors_about("", "", &["headTimeout"])[0].contains("there is no value"));
}
