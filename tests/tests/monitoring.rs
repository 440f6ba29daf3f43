//! Alert rules and the dashboard speak of metrics that exist: nobody is told when a name that was changed no longer matches.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use strongroom_server::admission::access::row;
use strongroom_tests::cluster::repository;

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All words that begin like a metric of ours.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("strongroom_")).collect()
}

/// What the code registers, by the names it registers them under.
fn registered() -> BTreeSet<String> {
    let code = read("server/src/telemetry.rs") + &read("csi-driver/src/telemetry.rs");
    let quoted = code.split('"').skip(1).step_by(2);
    quoted
        .filter(|text| metrics(text).len() == 1 && metrics(text).contains(*text))
        .map(str::to_owned)
        .collect()
}

fn check(file: &str, expressions: &[String]) {
    let known = registered();
    assert!(known.len() > 20, "the code was not read right: {known:?}");
    for expression in expressions {
        let names = metrics(expression);
        assert!(!names.is_empty(), "{file}: {expression} is about no metric of ours");
        for name in names {
            // A histogram shows under three names.
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_known = known.contains(name) || histogram.is_some_and(|name| known.contains(name));
            assert!(is_known, "{file}: there is no metric {name}");
        }
        for rpc in expression.split("rpc=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(row(rpc).is_some(), "{file}: there is no RPC {rpc}");
        }
    }
}

#[test]
fn every_alert_is_about_metrics_that_exist() {
    let rules: Value = strongroom_yaml::read(&read("deploy/monitoring/rules.yaml"), 16).unwrap().to_json();
    let mut expressions = Vec::new();
    for group in rules["spec"]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let (name, severity) = (&rule["alert"], &rule["labels"]["severity"]);
            assert!(severity == "critical" || severity == "warning", "{name}: {severity}");
            assert!(rule["annotations"]["summary"].as_str().unwrap().len() > 20, "{name} says what it is");
            expressions.push(rule["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(expressions.len() >= 10, "{expressions:?}");
    check("rules.yaml", &expressions);
}

#[test]
fn every_panel_is_about_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(expressions.len() >= 15, "{expressions:?}");
    check("dashboard.json", &expressions);
}

#[test]
fn the_operators_guide_speaks_of_metrics_that_exist() {
    let known = registered();
    for name in metrics(&read("docs/operator.md")) {
        // `strongroom_` alone is what a command greps for.
        assert!(name == "strongroom_" || known.contains(name), "docs/operator.md: there is no metric {name}");
    }
}
